//! A `tokenizer.json`.
#![no_main]

use ccdni::data::captions::vocabulary::Vocabulary;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = fuzz::file("tokenizer.json", data);
    if let Ok(vocabulary) = Vocabulary::load(&path) {
        for (id, word) in (0u32..).zip(vocabulary.words()) {
            assert_eq!(vocabulary.find(word), Some(id));
        }
        vocabulary.save(&path).expect("a vocabulary that can be written");
        assert_eq!(Vocabulary::load(&path).expect("the file that was written").digest(), vocabulary.digest());
    }
});
