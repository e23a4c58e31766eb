//! One test a rule of the script surface: what a script may reach, and what its manifest has to say of it.

use serde_json::json;

use super::*;
use crate::plan::{Expr, OnFailure};

#[test]
fn rule_9_the_first_refusal_stays_whatever_the_script_does() {
    for script in [
        "try { bundle::of([1]) } catch (e) { }\nphase(\"p\", \"w\").settle(\"x\", k8s::restart(\"x\"));",
        "let f = || bundle::of([1]);\ntry { f.call() } catch { }",
        "[1].map(|x| bundle::of([x]));",
        "let p = phase(\"p\", \"w\");\nlet ca = p.stage(\"x\", mint::create(#{}));\ntry { bundle::of([1]) } catch { }\nif ca == 1 { }",
        "fn f() { bundle::of([1]) }\ntry { try { f() } catch { throw \"other\"; } } catch { }",
    ] {
        let (code, message, _) = only(script);
        assert_eq!(code, "script::primitive", "{script}");
        assert_eq!(message, "`bundle::of` failed: that is no PEM");
    }
}

#[test]
fn rule_9_a_need_cannot_be_swallowed_either() {
    let case = Case::new("let s = [];\ntry { s = k8s::secrets(\"tidb\"); } catch { }\nnote(`${s.len()}`);");
    let plan = case.evaluate().unwrap();
    assert_eq!(plan.notes.first().unwrap().text, "2");
}

#[test]
fn rule_10_a_file_is_loaded_once_however_often_it_is_imported() {
    let case = Case::new(
        "import \"parts\" as a;\nimport \"lib/shared\" as b;\nimport \"parts\" as c;\nnote(`${a::N}`);",
    )
    .with("parts.rhai", "note(\"parts\");\nexport const N = 7;")
    .with("lib/shared.rhai", "import \"parts\" as p;\nnote(\"shared\");");
    let notes: Vec<_> =
        case.evaluate().unwrap().notes.into_iter().map(|note| (note.at.file, note.text)).collect();
    let said: Vec<_> = notes.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    assert_eq!(said, [("parts.rhai", "parts"), ("lib/shared.rhai", "shared"), ("main.rhai", "7")]);
}

#[test]
fn rule_10_eval_sleep_exit_and_unknown_variables_do_not_exist() {
    for (script, code) in [
        ("eval(\"1\");", "script::forbidden"),
        ("sleep(1);", "script::forbidden"),
        ("sleep(1.5);", "script::forbidden"),
        ("exit();", "script::forbidden"),
        ("exit(1);", "script::forbidden"),
        ("let cluster = 1;\nnote(clustr);", "script::unknown-variable"),
        ("let m = #{ a: 1 };\nnote(m.b);", "script::no-field"),
        ("timestamp();", "script::unknown-function"),
    ] {
        assert_eq!(only(script).0, code, "{script}");
    }
}

#[test]
fn rule_10_nothing_is_named_like_a_native() {
    for script in [
        "import \"other\" as k8s;",
        "fn mint() { }",
        "fn param(x) { x }",
        "fn stage(x) { x }",
        "fn len(x) { x }",
        "let phase = 1;",
        "fn f(item) { item }",
        "let f = |item| item;",
    ] {
        let case = Case::new(script).with("other.rhai", "");
        let findings = case.evaluate().expect_err(script);
        assert!(findings.iter().all(|finding| finding.code == "script::shadow"), "{script}: {findings:?}");
    }
}

#[test]
fn rule_10_a_variable_named_like_a_namespace_hides_nothing() {
    let plan = plan(
        r#"let k8s = k8s::secrets("tidb");
        let mint = phase("p", "w").stage("ca", mint::create(#{ n: k8s[0].name }));
        phase("q", "w").stage("more", mint::create(#{ ca: mint.cert }));"#,
    );
    assert_eq!(plan.step("q/stage/more").unwrap().action.primitive, "mint::create");
}

#[test]
fn rule_10_imports_come_from_the_own_folder_and_the_shared_modules() {
    assert_eq!(only("import \"../other/main\" as x;").0, "script::import");
    assert_eq!(only("import \"lib/none\" as x;").0, "script::unknown-import");
    assert_eq!(only("import \"lib/\" + \"x\" as x;").0, "script::import");
    let circle = Case::new("import \"a\" as a;")
        .with("a.rhai", "import \"b\" as b;")
        .with("b.rhai", "import \"a\" as a;");
    assert_eq!(circle.evaluate().unwrap_err().first().unwrap().code, "script::circular-import");
}

#[test]
fn rule_12_captured_and_shared_values_make_the_same_keys_and_arguments() {
    let plan = plan(
        r#"let p = phase("p", "w");
        let ns = "tidb";
        let declare = |n| { p.change(`${ns}/${n}`, k8s::patch_secret(n, #{ ns: ns })); };
        for n in ["a", "b"] { declare.call(n); }"#,
    );
    let keys: Vec<_> = plan.steps().map(|(_, step)| step.key.as_str()).collect();
    assert_eq!(keys, ["p/change/tidb/a", "p/change/tidb/b"]);
    assert_eq!(
        plan.step("p/change/tidb/a").unwrap().action.args.get(1),
        Some(&Expr::Lit(json!({"ns": "tidb"})))
    );
}

#[test]
fn a_shared_module_declares_steps_while_it_is_called_with_handles() {
    let case = Case::new(
        r#"import "lib/rotation" as rotation;
let both = phase("trust-both", "w");
let made = both.stage("ca", mint::create(#{}));
rotation::write_all(both, ["a", "b"], made.cert);"#,
    )
    .with(
        "lib/rotation.rhai",
        r#"fn write_all(stage_of, names, pem) {
    for n in names { one(stage_of, n, pem); }
}
private fn one(stage_of, n, pem) {
    stage_of.change(n, k8s::patch_secret(n, #{ "ca.crt": pem })).parallel(4);
}"#,
    );
    let plan = case.evaluate().unwrap();
    let step = plan.step("trust-both/change/b").unwrap();
    assert_eq!((step.at.file.as_str(), step.at.line), ("lib/rotation.rhai", 5));
    assert_eq!(step.parallel.map(|parallel| parallel.width), Some(4));
}

#[test]
fn reads_inside_trust_when_and_each_are_made_by_the_run() {
    let plan = plan(
        r#"trust(k8s::trust("basic"));
        let p = phase("p", "w");
        p.change("x", k8s::patch_secret(item().name, #{})).when(k8s::ready("x").ok).each(k8s::secrets("tidb"));"#,
    );
    assert!(plan.facts.is_empty());
    assert_eq!(plan.trust.as_ref().unwrap().primitive, "k8s::trust");
    let step = serde_json::to_value(plan.step("p/change/x").unwrap()).unwrap();
    assert_eq!(step["when"], json!({"$call": "k8s::ready", "args": ["x"], "path": ["ok"]}));
    assert_eq!(step["each"], json!({"$call": "k8s::secrets", "args": ["tidb"]}));
    assert_eq!(step["action"]["args"][0], json!({"$item": ["name"]}));
    assert_eq!(only("let t = k8s::trust(\"x\");\ntrust(t);").0, "script::trust");
    assert_eq!(
        only("phase(\"p\", \"w\").settle(\"x\", k8s::restart(item()));").0,
        "script::item-without-each"
    );
}

#[test]
fn an_action_that_no_step_carries_is_an_error() {
    let (code, message, line) = only(
        "let p = phase(\"p\", \"w\");\nk8s::patch_secret(\"x\", #{});\np.settle(\"x\", k8s::restart(\"x\"));",
    );
    assert_eq!((code.as_str(), line), ("script::unused-action", 2));
    assert!(message.starts_with("`k8s::patch_secret` is called but no step carries"), "{message}");
}

#[test]
fn an_action_or_a_phase_is_no_value() {
    assert_eq!(
        only("let a = k8s::restart(\"x\");\nphase(\"p\", \"w\").change(\"x\", k8s::patch_secret(a, #{}));").0,
        "script::action-as-value"
    );
    assert_eq!(
        only("let p = phase(\"p\", \"w\");\np.change(\"x\", k8s::patch_secret(p, #{}));").0,
        "script::not-data"
    );
}

#[test]
fn what_the_script_announces_the_manifest_must_too() {
    let plan = plan(
        r#"forward_only();
        let p = phase("p", "w").outage().final();
        p.settle("x", k8s::restart("x"));"#,
    );
    let phase = plan.phases.first().unwrap();
    assert!(plan.forward_only && phase.outage && phase.final_);
    let mut case = Case::new(
        "forward_only();\nlet p = phase(\"p\", \"w\").outage().final();\np.settle(\"x\", k8s::restart(\"x\"));",
    );
    case.manifest = Manifest::parse("title: t").unwrap();
    let codes: Vec<_> = case.evaluate().unwrap_err().into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["script::unannounced"; 3]);
}

#[test]
fn a_target_is_named_once_and_completely() {
    let good = r#"target(#{ api_version: "v1", kind: "TidbCluster", namespace: "tidb", name: "basic", uid: "u1" });"#;
    let target = plan(good).target.unwrap();
    assert_eq!(
        (target.title.as_str(), target.lease.as_str()),
        ("TidbCluster tidb/basic", "rollover-tidbcluster-basic")
    );
    assert_eq!(only(&format!("{good}\n{good}")).0, "script::twin");
    assert_eq!(only("target(#{ kind: \"x\", nmae: \"y\" });").1, "the target has no `name`");
}

#[test]
fn a_thrown_reason_is_the_diagnostic() {
    let (code, message, line) = only("let n = 1;\nif n == 1 { throw \"the cluster is paused\"; }");
    assert_eq!((code.as_str(), message.as_str(), line), ("script::thrown", "the cluster is paused", 2));
    let findings = findings("throw #{ message: \"paused\", hint: \"resume it\" };");
    assert_eq!(findings.first().unwrap().hint.as_deref(), Some("resume it"));
}

#[test]
fn a_step_touches_only_what_the_manifest_names() {
    let mut case = Case::new("phase(\"p\", \"w\").change(\"x\", k8s::patch_secret(\"x\", #{}));");
    case.params.insert("namespace".into(), json!("other"));
    let findings = case.evaluate().unwrap_err();
    assert_eq!(findings.first().unwrap().code, "script::capability");
    let mut case = Case::new("k8s::secrets(\"nowhere\");");
    case.manifest = Manifest::parse("title: t").unwrap();
    let findings = case.evaluate().unwrap_err();
    assert!(
        findings.first().unwrap().message.contains("secrets tidb/*"),
        "a read is refused before it is made"
    );
}

#[test]
fn options_follow_a_step_and_say_what_they_take() {
    let step = "let p = phase(\"p\", \"w\");\nlet s = p.settle(\"x\", k8s::restart(\"x\"));\n";
    for (option, says) in [
        ("s.deadline(\"0s\");", "a deadline is at least `1s`"),
        ("s.deadline(\"soon\");", "`soon` is no duration"),
        ("s.deadline(5);", "a deadline must be a text, found integer"),
        ("s.retry(0, \"1s\");", "the number of retries is an integer from 1 to 100"),
        ("s.parallel(1001);", "the width of `.parallel` is an integer from 1 to 1000"),
        ("s.when(1);", "`.when` takes `true`, `false` or a promise, found integer"),
        ("s.each(\"x\");", "`.each` takes a list or a promise of one, found text"),
        ("s.name.deadline(\"5s\");", "`.deadline` follows the declaration of a step, nothing else"),
    ] {
        let (code, message, line) = only(&format!("{step}{option}"));
        assert!(message.contains(says) && line == 3 && code.starts_with("script::"), "{option}: {message}");
    }
    let plan = plan(&format!("{step}s.when(false).ask();\np.settle(\"y\", k8s::restart(\"y\")).when(true);"));
    let skipped = plan.step("p/settle/x").unwrap();
    assert_eq!((&skipped.when, skipped.on_failure), (&Some(Expr::Lit(json!(false))), OnFailure::Ask));
    assert_eq!(plan.step("p/settle/y").unwrap().when, None);
}
