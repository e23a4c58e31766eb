//! Whatever a script is, declaring it ends soon and never panics.

use proptest::prelude::*;

use super::*;

#[test]
fn endless_loops_recursion_and_growth_end_with_a_limit() {
    for script in [
        "loop { }",
        "fn f(x) { f(x + 1) }\nf(0);",
        "let s = \"x\"; loop { s += s; }",
        "let a = [1]; loop { a += a; }",
        "let m = #{}; let i = 0; loop { m[`${i}`] = i; i += 1; }",
    ] {
        assert_eq!(only(script).0, "script::limit", "{script}");
    }
    let deep = format!("let x = {}1{};", "(".repeat(500), ")".repeat(500));
    assert_eq!(only(&deep).0, "script::limit");
}

#[test]
fn what_all_arguments_hold_together_is_limited() {
    let script = r#"let p = phase("p", "w");
        let big = "x"; for i in 0..21 { big += big; }
        for i in 0..100 { p.change(`${i}`, k8s::patch_secret("x", #{ big: big })); }"#;
    assert_eq!(only(script).1, "the workflow holds more than 64 MiB of data");
}

#[test]
fn a_primitive_that_panics_or_waits_is_a_defect_and_no_crash() {
    assert_eq!(only("bundle::waits();").0, "script::internal");
    assert_eq!(only("bundle::panics();").1, "`bundle::panics` panicked");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "real time, told and not judged")]
fn a_thousand_steps_are_declared_quickly() {
    let script = r#"let p = phase("p", "w");
        for i in 0..1000 { p.change(`step ${i}`, k8s::patch_secret(`s${i}`, #{ n: i })).parallel(4); }"#;
    let begun = std::time::Instant::now();
    assert_eq!(plan(script).steps().count(), 1000);
    eprintln!("1,000 steps declared, checked and matched with the manifest in {:?}", begun.elapsed());
}

/// Pieces that make texts which get further than random characters do.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("let p = phase(\"p\", \"w\");\n".to_owned()),
        Just("p.change(\"x\", k8s::patch_secret(\"x\", #{}))".to_owned()),
        Just("let ca = p.stage(\"ca\", mint::create(#{}));\n".to_owned()),
        Just("ca.cert".to_owned()),
        Just(".parallel(2)".to_owned()),
        Just(".each(item())".to_owned()),
        Just("bundle::of([ca, 1])".to_owned()),
        Just("for i in 0..3 { ".to_owned()),
        Just(" }\n".to_owned()),
        Just("|x| x + ".to_owned()),
        Just("fn f(a) { a }\n".to_owned()),
        Just("import \"main\" as m;\n".to_owned()),
        Just("switch ".to_owned()),
        Just("`${".to_owned()),
        Just("try { ".to_owned()),
        Just("} catch (e) { ".to_owned()),
        Just("trust(k8s::trust(\"x\"));\n".to_owned()),
        Just("this.x(".to_owned()),
        "[ -~äß\u{1F600}\n]{0,6}",
        Just(";\n".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn declaring_arbitrary_text_never_panics(pieces in prop::collection::vec(piece(), 0..14)) {
        let script = pieces.concat();
        let case = Case::new(&script);
        let shown = match case.evaluate() {
            Ok(plan) => serde_json::to_string(&plan).unwrap(),
            Err(findings) => {
                prop_assert!(!findings.iter().any(|finding| finding.code == "script::internal"), "{script}");
                render_all(&findings, Paint::Plain)
            }
        };
        prop_assert!(!shown.is_empty());
        render_all(&case.check(), Paint::Colour);
    }
}
