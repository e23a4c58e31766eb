//! A width that groups nothing: `.parallel(n)` on a step that has no neighbour to run beside.

use rhai::{AST, ASTNode, Expr, Position, Stmt};

use super::failure::at;
use super::sources::Sources;
use crate::diagnostic::Diagnostic;

/// Steps of the main script's own level whose `.parallel` can group nothing: neither in a loop or a function, nor with
/// an `.each`, nor beside another one; and widths below two anywhere.
pub(super) fn groups_nothing(file: &str, ast: &AST, sources: &Sources) -> Vec<Diagnostic> {
    let mut places: Vec<Position> = Vec::new();
    narrow(ast, &mut places);
    level(ast.statements(), &mut places);
    let hint =
        "it belongs on adjacent steps of one phase and role: in a loop, on neighbours, or with `.each(…)`";
    places
        .into_iter()
        .map(|position| {
            Diagnostic::warning("script::parallel", "this `.parallel` groups nothing").hint(hint).spot(
                at(file, position),
                sources.text(file),
                "",
            )
        })
        .collect()
}

fn narrow(ast: &AST, places: &mut Vec<Position>) {
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Expr(Expr::MethodCall(call, position))) = path.last()
            && call.name == "parallel"
            && matches!(call.args.first(), Some(Expr::IntegerConstant(..=1, _)))
        {
            places.push(*position);
        }
        true
    });
}

fn level(statements: &[Stmt], places: &mut Vec<Position>) {
    let marks: Vec<Mark> = statements.iter().map(mark).collect();
    for (index, mark) in marks.iter().enumerate() {
        let Some(position) = mark.parallel.filter(|_| !mark.grouped) else { continue };
        let beside = |neighbour: Option<&Mark>| neighbour.is_some_and(|mark| mark.parallel.is_some());
        let before = index.checked_sub(1).and_then(|before| marks.get(before));
        if !beside(before) && !beside(marks.get(index + 1)) && !places.contains(&position) {
            places.push(position);
        }
    }
    for statement in statements {
        if let Stmt::Block(block) = statement {
            level(block.statements(), places);
        }
    }
}

/// What one statement of a level holds outside of loops and blocks.
struct Mark {
    parallel: Option<Position>,
    grouped: bool,
}

fn mark(statement: &Stmt) -> Mark {
    let mut mark = Mark { parallel: None, grouped: false };
    if matches!(statement, Stmt::For(..) | Stmt::While(..) | Stmt::Do(..) | Stmt::Block(..) | Stmt::If(..)) {
        return mark;
    }
    statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
        if let Some(ASTNode::Expr(Expr::MethodCall(call, position))) = path.last() {
            match call.name.as_str() {
                "parallel" => mark.parallel = Some(*position),
                "each" => mark.grouped = true,
                _ => {}
            }
        }
        true
    });
    mark
}
