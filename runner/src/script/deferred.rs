//! Reads that the run makes: those written inside `trust(…)`, `.when(…)` and `.each(…)`.
//!
//! Everywhere else a read with concrete arguments is a fact, read while the script is evaluated. Inside these three the
//! author means the world as it is when the step comes, so the call becomes part of the plan.

use std::collections::HashSet;

use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};

/// Places of such calls: file, line, column.
#[derive(Debug, Default, Clone)]
pub(super) struct Deferred(HashSet<(String, usize, usize)>);

impl Deferred {
    pub(super) fn add(&mut self, file: &str, ast: &AST) {
        ast.walk(&mut |path: &[ASTNode]| {
            let Some((call, position)) = path.last().and_then(plain_call) else { return true };
            if !call.namespace.is_empty() && path.iter().rev().skip(1).any(defers) {
                let place = (position.line().unwrap_or(1), position.position().unwrap_or(1));
                self.0.insert((file.to_owned(), place.0, place.1));
            }
            true
        });
    }

    pub(super) fn contains(&self, file: &str, line: usize, column: usize) -> bool {
        !self.0.is_empty() && self.0.contains(&(file.to_owned(), line, column))
    }
}

/// A call in function style, wherever the syntax tree keeps it.
pub(super) fn plain_call<'a>(node: &ASTNode<'a>) -> Option<(&'a FnCallExpr, Position)> {
    match node {
        ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position)) => {
            Some((call, *position))
        }
        _ => None,
    }
}

fn defers(node: &ASTNode) -> bool {
    match node {
        ASTNode::Expr(Expr::MethodCall(call, _)) => matches!(call.name.as_str(), "when" | "each"),
        _ => plain_call(node).is_some_and(|(call, _)| call.namespace.is_empty() && call.name == "trust"),
    }
}
