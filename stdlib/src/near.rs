//! The right name for a misspelt one.

/// The candidate nearest to a misspelt word, if any is near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 2.max(word.chars().count() / 3);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_offered() {
        assert_eq!(nearest("namspace", ["namespace", "cluster"]), Some("namespace"));
        assert_eq!(nearest("x", ["namespace", "cluster"]), None);
        assert_eq!(nearest("ns", ["pd"]), None);
    }
}
