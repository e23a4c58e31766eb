//! How findings look on a terminal.

use insta::assert_snapshot;

use super::*;

#[test]
fn a_promise_that_is_printed() {
    assert_snapshot!(refusal(
        "let both = phase(\"trust-both\", \"w\");\nlet ca = both.stage(\"new CA\", mint::create(#{}));\nprint(`the CA is ${ca.cert}`);"
    ));
}

#[test]
fn twin_steps() {
    assert_snapshot!(refusal(
        "let p = phase(\"p\", \"w\");\np.settle(\"a\", k8s::restart(\"x\"));\n\n\np.settle(\"a\", k8s::restart(\"y\"));"
    ));
}

#[test]
fn a_misspelt_native() {
    assert_snapshot!(refusal("let list = k8s::secretes(\"tidb\");"));
}

#[test]
fn a_wrong_count_of_arguments() {
    assert_snapshot!(refusal("let p = phase(\"p\", \"w\");\np.settle(\"größe\", k8s::restart(\"x\", 2));"));
}

#[test]
fn a_failure_deep_in_a_shared_module_shows_the_way_there() {
    let case = Case::new("import \"lib/rotation\" as rotation;\n\nrotation::all([1]);").with(
        "lib/rotation.rhai",
        "fn all(parts) {\n    one(parts)\n}\nfn one(parts) {\n    bundle::of(parts)\n}",
    );
    assert_snapshot!(render_all(&case.evaluate().unwrap_err(), Paint::Plain));
}

#[test]
fn a_syntax_error_and_an_unknown_variable() {
    assert_snapshot!(refusal("let p = phase(\"p\", \"w\"\np.settle();"));
    assert_snapshot!(refusal("let cluster = 1;\nnote(clutser);"));
    assert_snapshot!(refusal("let p = phase(\"p\", \"w\");\nif true {"));
}

#[test]
fn twins_in_two_files() {
    let case = Case::new("import \"lib/steps\" as steps;\nlet p = phase(\"p\", \"w\");\np.settle(\"a\", k8s::restart(\"x\"));\nsteps::add(p);")
        .with("lib/steps.rhai", "fn add(p) {\n    p.settle(\"a\", k8s::restart(\"y\"));\n}");
    assert_snapshot!(render_all(&case.evaluate().unwrap_err(), Paint::Plain));
}

#[test]
fn what_the_manifest_does_not_name() {
    let mut case = Case::new("phase(\"p\", \"w\").change(\"x\", k8s::patch_secret(\"pd\", #{}));");
    case.manifest = Manifest::parse("title: t").unwrap();
    assert_snapshot!(render_all(&case.evaluate().unwrap_err(), Paint::Plain));
}

#[test]
fn eval_is_switched_off() {
    assert_snapshot!(refusal("let x = eval(\"1\");"));
}
