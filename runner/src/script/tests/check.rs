//! What is found before anything runs.

use super::*;

fn codes(script: &str) -> Vec<String> {
    Case::new(script).check().into_iter().filter(Diagnostic::is_error).map(|finding| finding.code).collect()
}

fn warnings(script: &str) -> Vec<(String, usize)> {
    let findings = Case::new(script).check().into_iter().filter(|finding| finding.code == "script::parallel");
    findings.map(|finding| (finding.message.clone(), finding.at().unwrap().line)).collect()
}

#[test]
fn a_typo_in_a_native_is_found_in_a_branch_that_never_runs_and_the_right_name_is_offered() {
    let findings =
        Case::new("if false { phase(\"p\", \"w\").change(\"x\", k8s::patch_secert(\"x\", #{})); }").check();
    let finding = findings.first().unwrap();
    assert_eq!(finding.code, "script::unknown-native");
    assert_eq!(finding.message, "there is no primitive `k8s::patch_secert`");
    let hint = "did you mean `k8s::patch_secret(name: any, data: map, [options: map])`?";
    assert_eq!(finding.hint.as_deref(), Some(hint));
    assert_eq!((finding.at().unwrap().column, finding.spots.first().unwrap().length), (40, 17));
}

#[test]
fn names_and_counts_are_checked_wherever_they_stand() {
    for (script, code) in [
        ("fn never() { k8s::restart(1, 2) }", "script::argument-count"),
        ("let f = || tls::serve(\"x\", #{});", "script::unknown-native"),
        ("k9s::restart(\"x\");", "script::unknown-namespace"),
        ("let x = [#{ a: k8s::secrets() }];", "script::argument-count"),
        ("phse(\"p\", \"w\");", "script::unknown-function"),
        ("phase(\"p\");", "script::argument-count"),
        ("let p = phase(\"p\", \"w\"); p.chnge(\"x\", 1);", "script::unknown-function"),
        ("let p = phase(\"p\", \"w\"); p.change(\"x\");", "script::argument-count"),
        ("fn two(a, b) { a } two(1);", "script::argument-count"),
        ("param(\"namespce\");", "script::unknown-param"),
        ("restart(\"x\");", "script::unknown-function"),
    ] {
        assert_eq!(codes(script), [code], "{script}");
    }
}

#[test]
fn imported_functions_are_checked_too() {
    let case = |call: &str| {
        Case::new(&format!("import \"lib/rotation\" as rotation;\n{call}"))
            .with("lib/rotation.rhai", "fn trust_both(a, b) { a }\nprivate fn inner() { 1 }")
            .check()
            .into_iter()
            .filter(Diagnostic::is_error)
            .map(|finding| (finding.code, finding.hint))
            .collect::<Vec<_>>()
    };
    assert_eq!(case("rotation::trust_both(1, 2);"), []);
    let near = Some("did you mean `rotation::trust_both`?".to_owned());
    assert_eq!(case("rotation::trust_bth(1, 2);"), [("script::unknown-function".to_owned(), near)]);
    assert_eq!(case("rotation::trust_both(1);"), [("script::argument-count".to_owned(), None)]);
    assert_eq!(case("rotation::inner();").len(), 1);
}

#[test]
fn a_good_script_has_no_findings() {
    let script = r#"let names = k8s::secrets(param("namespace")).filter(|s| s.name != "x").map(|s| s.name);
        let p = phase("p", `for ${param("count")} ${param("password")}`);
        for (n, i) in names { p.change(n, k8s::patch_secret(n, #{ i: i })).parallel(2).retry(2, "1s").ask(); }
        let helper = #{ stages: |x| x + 1 };
        note(`${helper.stages(1)} ${type_of(1)}`);"#;
    assert_eq!(Case::new(script).check(), []);
}

#[test]
fn a_parallel_that_groups_nothing_is_a_finding() {
    let step = |name: &str| format!("p.change(\"{name}\", k8s::patch_secret(\"x\", #{{}}))");
    let alone = format!("let p = phase(\"p\", \"w\");\n{}.parallel(4);\n{};", step("a"), step("b"));
    assert_eq!(warnings(&alone), [("this `.parallel` groups nothing".to_owned(), 2)]);
    let beside =
        format!("let p = phase(\"p\", \"w\");\n{}.parallel(4);\n{}.parallel(4);", step("a"), step("b"));
    assert_eq!(warnings(&beside), []);
    let looped = "let p = phase(\"p\", \"w\");\nfor n in [\"a\"] { p.change(n, k8s::patch_secret(n, #{})).parallel(4); }";
    assert_eq!(warnings(looped), []);
    let narrow = "let p = phase(\"p\", \"w\");\nfor n in [\"a\"] { p.change(n, k8s::patch_secret(n, #{})).parallel(1); }";
    assert_eq!(warnings(narrow).len(), 1);
}

#[test]
fn an_unread_parameter_is_a_warning_at_its_line() {
    let findings = Case::new("note(param(\"namespace\"));").check();
    let unread: Vec<_> =
        findings.iter().map(|finding| (finding.message.as_str(), finding.at().unwrap().line)).collect();
    assert_eq!(
        unread,
        [
            ("parameter `count` is never read by the script", 5),
            ("parameter `password` is never read by the script", 6)
        ]
    );
}
