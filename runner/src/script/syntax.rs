//! What `check` looks at in a syntax tree, and where in the text it stands.

use rhai::{ASTNode, Expr, FnCallExpr, Position, Stmt};

use super::deferred::plain_call;

/// What is looked at in a syntax tree. Owned, because the walk lends its nodes only for a moment.
pub(super) enum Node {
    Name(String, Position, &'static str),
    Call(FnCallExpr, Position),
    Method(FnCallExpr, Position),
    Switch(Position),
    Import(Option<String>, Position),
}

pub(super) fn classify(node: &ASTNode) -> Vec<Node> {
    if let Some((call, position)) = plain_call(node) {
        return vec![Node::Call(call.clone(), position)];
    }
    match node {
        ASTNode::Expr(Expr::MethodCall(call, position)) => vec![Node::Method((**call).clone(), *position)],
        ASTNode::Stmt(Stmt::Var(declared, _, _)) => {
            vec![Node::Name(declared.0.name.to_string(), declared.0.pos, "variable")]
        }
        ASTNode::Stmt(Stmt::For(declared, _)) => {
            let counter = declared.1.as_ref();
            [Some(&declared.0), counter]
                .into_iter()
                .flatten()
                .map(|ident| Node::Name(ident.name.to_string(), ident.pos, "variable"))
                .collect()
        }
        ASTNode::Stmt(Stmt::Switch(switch, position)) if !always_known(&switch.0) => {
            vec![Node::Switch(*position)]
        }
        ASTNode::Stmt(Stmt::Import(import, position)) => {
            let path = match &import.0 {
                Expr::StringConstant(path, _) => Some(path.to_string()),
                _ => None,
            };
            let mut nodes = vec![Node::Import(path, *position)];
            if !import.1.name.is_empty() {
                nodes.push(Node::Name(import.1.name.to_string(), import.1.pos, "import"));
            }
            nodes
        }
        _ => Vec::new(),
    }
}

/// Expressions that can never be a promise: a parameter, a type, a text, a comparison.
fn always_known(expr: &Expr) -> bool {
    match expr {
        Expr::FnCall(call, _) => {
            call.namespace.is_empty()
                && (matches!(call.name.as_str(), "param" | "type_of") || call.is_operator_call())
        }
        Expr::Dot(dot, ..) => matches!(&dot.rhs, Expr::MethodCall(call, _) if call.name == "type_of"),
        expr => {
            expr.is_constant() || matches!(expr, Expr::InterpolatedString(..) | Expr::And(..) | Expr::Or(..))
        }
    }
}

/// Where `fn name` stands, for the syntax tree does not keep it.
pub(super) fn function_place(text: &str, name: &str) -> Option<(usize, usize)> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.lines().enumerate().find_map(|(index, line)| {
        line.match_indices(name).find_map(|(start, _)| {
            let before = line.get(..start)?.trim_end();
            let after = line.get(start + name.len()..)?;
            let whole = !after.starts_with(word) && (before == "fn" || before.ends_with(" fn"));
            let column = line.get(..start)?.chars().count() + 1;
            whole.then_some((index + 1, column))
        })
    })
}

/// Where a closure's parameter stands, roughly: the word after a bar or a comma on a line with bars.
pub(super) fn bar_place(text: &str, name: &str) -> Option<(usize, usize)> {
    text.lines().enumerate().filter(|(_, line)| line.contains('|')).find_map(|(index, line)| {
        line.match_indices(name).find_map(|(start, _)| {
            let before = line.get(..start)?;
            let lead = before.trim_end().chars().last()?;
            matches!(lead, '|' | ',').then_some((index + 1, before.chars().count() + 1))
        })
    })
}
