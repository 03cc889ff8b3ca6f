//! "Did you mean": the nearest known name to a misspelt one.

/// Names longer than this are not compared: nobody misspells one by two letters, and the work grows with the square.
const NAME_LEN_MAX: usize = 64;

/// The known name nearest to `name`, if near enough to be what was meant: at most one edit per three letters.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).min(3);
    if name.len() > NAME_LEN_MAX || allowed == 0 {
        return None;
    }
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= NAME_LEN_MAX && candidate.len().abs_diff(name.len()) <= allowed)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A sentence with the nearest name, or nothing.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Optimal string alignment distance: insertions, deletions, changes, and swaps of neighbours, ASCII case aside.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_ascii_lowercase().chars().collect();
    let right: Vec<char> = right.to_ascii_lowercase().chars().collect();
    let width = right.len() + 1;
    let mut rows = vec![vec![0_usize; width]; left.len() + 1];
    for (index, cell) in rows[0].iter_mut().enumerate() {
        *cell = index;
    }
    for row in 1..=left.len() {
        rows[row][0] = row;
        for column in 1..width {
            let change = usize::from(left[row - 1] != right[column - 1]);
            let mut best =
                (rows[row - 1][column] + 1).min(rows[row][column - 1] + 1).min(rows[row - 1][column - 1] + change);
            let swapped =
                row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1];
            if swapped {
                best = best.min(rows[row - 2][column - 2] + 1);
            }
            rows[row][column] = best;
        }
    }
    rows[left.len()][width - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["proc.name", "proc.pname", "fd.name", "spawned_process"];
        assert_eq!(nearest("proc.nmae", known), Some("proc.name"));
        assert_eq!(nearest("spawned_proces", known), Some("spawned_process"));
        assert_eq!(nearest("Proc.Name", known), Some("proc.name"));
        assert_eq!(nearest("container.id", known), None);
        assert_eq!(nearest(&"x".repeat(NAME_LEN_MAX + 1), known), None);
    }
}
