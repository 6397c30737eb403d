//! Globs over whole texts: `*` is any run of characters, `?` exactly one.

/// Whether `pattern` matches the whole of `text`. Linear in space, at worst quadratic in time.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the characters after the last star do not fit.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    p = star + 1;
                    t = from + 1;
                    retry = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_whole_texts() {
        fn check(pattern: &str, text: &str, expected: bool) {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} on {text:?}");
        }
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("web-*", "web-1", true);
        check("web-*", "db-web-1", false);
        check("*-1", "web-1-1", true);
        check("w?b", "wéb", true);
        check("w?b", "wb", false);
        check("a*b*c", "a__b__b_c", true);
        check("a*b*c", "a__c__b", false);
        check("a*****b", &"a".repeat(2000), false);
    }
}
