//! How similar strings are.

use super::super::{Context, Function, pure};
use super::Called;
use crate::aql::value::Value;
use crate::errors;

/// Pairs of characters (or n-grams) that are compared in one call.
const PAIRS_MAX: usize = 16 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("LEVENSHTEIN_DISTANCE", 2, 2, |_, args| {
        let characters = |value: &Value| value.to_string().chars().collect::<Vec<char>>();
        let (a, b) = (characters(&args[0]), characters(&args[1]));
        check_pairs(a.len(), b.len())?;
        Ok(distance(&a, &b).into())
    }),
    pure("NGRAM_POSITIONAL_SIMILARITY", 3, 3, |context, args| ngram_similarity(context, args, true)),
    pure("NGRAM_SIMILARITY", 3, 3, |context, args| ngram_similarity(context, args, false)),
    pure("SOUNDEX", 1, 1, |_, args| Ok(soundex(&args[0].to_string()).into())),
];

fn check_pairs(a: usize, b: usize) -> Result<(), errors::Error> {
    if a.saturating_mul(b) > PAIRS_MAX {
        return Err(errors::RESOURCE_LIMIT.because("strings are too long to be compared"));
    }
    Ok(())
}

/// Damerau-Levenshtein: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(from != to)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && *to == a[i - 1] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Kondrak's similarity: the longest common sequence of n-grams. Those that match in part count by that part if
/// `partial`, and the result is relative to the longer string; otherwise to the target.
fn ngram_similarity(context: &mut Context<'_>, args: &[Value], partial: bool) -> Called {
    let (Some(a), Some(b)) = (args[0].as_str(), args[1].as_str()) else { return context.invalid_type() };
    let Some(size) = args[2].is_number().then(|| args[2].to_int()).and_then(|size| usize::try_from(size).ok()) else {
        return context.invalid_type();
    };
    if size < 1 {
        return context.invalid_type();
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    check_pairs(a.len(), b.len().saturating_mul(size))?;
    if a.len() < size || b.len() < size {
        let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        let longest = a.len().max(b.len());
        return Ok(match (a == b, partial) {
            (true, _) => Value::Int(1),
            (false, true) => Value::number(same as f64 / longest as f64),
            (false, false) => Value::Int(0),
        });
    }
    let mut above = vec![0.0f32; b.len() - size + 2];
    for from in a.windows(size) {
        let mut row = vec![0.0f32];
        for (j, to) in b.windows(size).enumerate() {
            let same = from.iter().zip(to).filter(|(a, b)| a == b).count();
            let score = if partial { same as f32 / size as f32 } else { f32::from(same == size) };
            row.push((above[j] + score).max(above[j + 1]).max(row[j]));
        }
        above = row;
    }
    let (grams, target) = (a.len() - size + 1, b.len() - size + 1);
    let divisor = if partial { grams.max(target) } else { target };
    Ok(Value::number(f64::from(above[above.len() - 1] / divisor as f32)))
}

fn soundex(text: &str) -> String {
    let code = |letter: char| match letter {
        'B' | 'F' | 'P' | 'V' => '1',
        'C' | 'G' | 'J' | 'K' | 'Q' | 'S' | 'X' | 'Z' => '2',
        'D' | 'T' => '3',
        'L' => '4',
        'M' | 'N' => '5',
        'R' => '6',
        _ => '0',
    };
    let mut letters = text.chars().filter(char::is_ascii_alphabetic).map(|letter| letter.to_ascii_uppercase());
    let Some(first) = letters.next() else { return String::new() };
    let (mut out, mut last) = (String::from(first), code(first));
    for letter in letters {
        let now = code(letter);
        if now != '0' && now != last && out.len() < 4 {
            out.push(now);
        }
        // H and W do not part letters of one code.
        if !matches!(letter, 'H' | 'W') {
            last = now;
        }
    }
    format!("{out:0<4}")
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        r#"LEVENSHTEIN_DISTANCE("foobar", "bar")"# => "3",
        r#"LEVENSHTEIN_DISTANCE(" ", "")"# => "1",
        r#"LEVENSHTEIN_DISTANCE("The quick brown fox jumps over the lazy dog", "The quick black dog jumps over the brown fox")"# => "13",
        r#"LEVENSHTEIN_DISTANCE("der mötör trötet", "der trötet")"# => "6",
        r#"NGRAM_POSITIONAL_SIMILARITY("quick fox", "quick foxx", 2)"# => "0.8888888955116272",
        r#"NGRAM_POSITIONAL_SIMILARITY("quick fox", "quick foxx", 3)"# => "0.875",
        r#"NGRAM_POSITIONAL_SIMILARITY("quick fox", "quirky fox", 2)"# => "0.7222222089767456",
        r#"NGRAM_POSITIONAL_SIMILARITY("quick fox", "quirky fox", 3)"# => "0.6666666865348816",
        r#"NGRAM_SIMILARITY("quick fox", "quick foxx", 2)"# => "0.8888888955116272",
        r#"NGRAM_SIMILARITY("quick fox", "quick foxx", 3)"# => "0.875",
        r#"NGRAM_SIMILARITY("quick fox", "quirky fox", 2)"# => "0.5555555820465088",
        r#"NGRAM_SIMILARITY("quick fox", "quirky fox", 3)"# => "0.375",
        r#"NGRAM_SIMILARITY("a", "b", 0)"# => "null" 1542,
        r#"SOUNDEX("example")"# => r#""E251""#,
        r#"SOUNDEX("ekzampul")"# => r#""E251""#,
        r#"SOUNDEX("soundex")"# => r#""S532""#,
        r#"SOUNDEX("sounteks")"# => r#""S532""#,
    }
}
