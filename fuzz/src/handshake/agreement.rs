//! What two ends may agree on.

use ductworks::wire::{CODEC_NAME_MAX, Hello, Terms};

/// The end that has these terms and heard that hello has agreed on this.
pub(super) fn check(agreed: &Terms, ours: &Terms, theirs: &Hello) {
    assert_eq!(agreed.limit, ours.limit.min(theirs.limit));
    assert_eq!(agreed.codec, theirs.codec());
    let takes_them = theirs.capabilities & Hello::DESCRIPTORS != 0;
    assert_eq!(agreed.descriptors, ours.descriptors && takes_them);
    assert!(is_match(&ours.codec, theirs.codec()), "the codecs differ");
}

/// Whether codecs of these names fit together.
pub(super) fn is_match(ours: &str, theirs: &str) -> bool {
    let (ours, theirs) = (told(ours), told(theirs));
    ours.is_empty() || theirs.is_empty() || ours == theirs
}

/// As much of a codec's name as a hello has room for.
pub(super) fn told(name: &str) -> &str {
    let fits = |end: &usize| name.is_char_boundary(*end);
    let end = (0..=CODEC_NAME_MAX).rev().find(fits).unwrap_or_default();
    &name[..end]
}
