use std::os::unix::fs::PermissionsExt;

use super::*;

fn declared(names: &[&str]) -> BTreeMap<KeyId, Declared> {
    let key = Declared { hash: None, models: None, expires: None, metadata: BTreeMap::new(), pin: false };
    names.iter().map(|name| (KeyId::new(name), key.clone())).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_made_key_is_shown_once_and_known_for_ever() {
    let dir = tempfile::tempdir().unwrap();

    let first = fill(declared(&["team"]), Some(dir.path())).unwrap();
    prepare(dir.path(), &first.made_hashes).unwrap().unwrap().commit().unwrap();
    let second = fill(declared(&["team"]), Some(dir.path())).unwrap();

    let (id, secret) = &first.made[0];
    assert_eq!(id.as_str(), "team");
    assert_eq!(first.keys[id].hash, KeyHash::of(secret.expose().as_bytes()));
    assert!(second.made.is_empty());
    assert_eq!(second.keys, first.keys);
    assert_eq!(mode(&dir.path().join(KEYS_FILE)), 0o600);
    let kept = std::fs::read_to_string(dir.path().join(KEYS_FILE)).unwrap();
    assert!(!kept.contains(secret.expose().as_str()));
}

#[test]
fn what_is_prepared_and_not_committed_was_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = fill(declared(&["team"]), Some(dir.path())).unwrap();

    drop(prepare(dir.path(), &first.made_hashes).unwrap());
    let second = fill(declared(&["team"]), Some(dir.path())).unwrap();

    assert_eq!(second.made.len(), 1);
    assert_ne!(second.keys, first.keys);
}

#[test]
fn a_key_that_left_and_came_back_has_another_secret() {
    let dir = tempfile::tempdir().unwrap();
    let keep = |names: &[&str]| {
        let filled = fill(declared(names), Some(dir.path())).unwrap();
        if let Some(prepared) = prepare(dir.path(), &filled.made_hashes).unwrap() {
            prepared.commit().unwrap();
        }
        filled
    };

    let first = keep(&["a", "b"]);
    keep(&["b"]);
    let last = keep(&["a", "b"]);

    assert_ne!(last.keys["a"].hash, first.keys["a"].hash);
    assert_eq!(last.keys["b"].hash, first.keys["b"].hash);
}

#[test]
fn a_damaged_file_is_told_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["{", "{\"a\": \"sha256:12\"}"] {
        std::fs::write(dir.path().join(KEYS_FILE), text).unwrap();

        let error = fill(declared(&["a"]), Some(dir.path())).err().unwrap().to_string();

        assert!(error.contains(KEYS_FILE), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join(KEYS_FILE)).unwrap(), text);
    }
}

#[test]
fn made_secrets_are_long_plain_and_never_alike() {
    let secrets: Vec<_> = (0..50).map(|_| new_key_secret().unwrap()).collect();

    for (index, secret) in secrets.iter().enumerate() {
        let random = secret.expose().strip_prefix("sk-troupe-").unwrap();
        assert_eq!(random.len(), DIGITS);
        assert!(random.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(secrets[..index].iter().all(|other| other != secret));
    }
}

#[test]
fn the_operators_token_is_made_once_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("made-on-the-way");

    assert_eq!(own_token(None, &data_dir, false).unwrap(), None, "its cluster has one");
    let first = own_token(None, &data_dir, true).unwrap().unwrap();

    let (file, made) = (data_dir.join(TOKEN_FILE), first.made.unwrap());
    assert_eq!(mode(&file), 0o600);
    assert!(!std::fs::read_to_string(&file).unwrap().contains(made.expose()), "only its hash is kept");
    assert_eq!(own_token(None, &data_dir, true).unwrap(), Some(OwnToken::kept(made.expose())), "it is shown once");
    assert_eq!(own_token(None, &data_dir, false).unwrap(), Some(OwnToken::kept(made.expose())));
    let configured = Secret::new("own".to_owned());
    assert_eq!(own_token(Some(&configured), &data_dir, true).unwrap(), Some(OwnToken::kept("own")));
}

#[test]
fn a_token_that_an_earlier_program_kept_in_clear_stays_good_and_is_in_clear_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(TOKEN_FILE);
    std::fs::write(&file, "troupe-admin-old\n").unwrap();

    let configured = Secret::new("own".to_owned());
    assert_eq!(own_token(Some(&configured), dir.path(), true).unwrap(), Some(OwnToken::kept("own")));
    for _ in 0..2 {
        assert_eq!(own_token(None, dir.path(), false).unwrap(), Some(OwnToken::kept("troupe-admin-old")));
        assert!(!std::fs::read_to_string(&file).unwrap().contains("troupe-admin-old"));
    }
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn a_token_that_looks_like_a_hash_is_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let token = "5e".repeat(32);
    std::fs::write(dir.path().join(TOKEN_FILE), &token).unwrap();

    assert_eq!(own_token(None, dir.path(), false).unwrap(), Some(OwnToken::kept(&token)));
    assert!(!std::fs::read_to_string(dir.path().join(TOKEN_FILE)).unwrap().contains(&token));
}

#[test]
fn a_token_file_without_a_token_is_an_error_not_an_open_door() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["\n", "two words", "sha256:12"] {
        std::fs::write(dir.path().join(TOKEN_FILE), text).unwrap();

        let error = own_token(None, dir.path(), true).unwrap_err().to_string();

        assert!(error.contains(TOKEN_FILE), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join(TOKEN_FILE)).unwrap(), text);
    }
}
