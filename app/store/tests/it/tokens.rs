//! Tokens: made once, kept as a hash, revoked.

use ratebox_store::NewToken;

use crate::databases::both;

#[tokio::test]
async fn a_token_is_kept_as_a_hash_and_can_be_revoked() {
    for fresh in both().await {
        let store = &fresh.store;
        assert_eq!(store.token_count().await.unwrap(), 0);
        let new = NewToken {
            owner: "me".to_owned(),
            name: "laptop".to_owned(),
            scopes: vec!["validation:write".to_owned(), "validation:read".to_owned()],
            profile: None,
            limit_per_minute: Some(7),
            live: true,
            expires_at: None,
        };
        let (token, secret) = store.create_token(new).await.unwrap();
        let text = secret.reveal();
        assert!(
            text.starts_with(&format!("rb_live_{}_", token.id)),
            "{}",
            fresh.name
        );
        let read = store.token(&token.id).await.unwrap().unwrap();
        assert_eq!((read.scopes.len(), read.limit_per_minute), (2, Some(7)));
        assert_eq!(read.secret_hash.len(), 32);
        assert!(!text.contains(&ratebox_kit::id::hex(&read.secret_hash)));
        assert!(read.is_valid(fresh.clock.now()));
        assert!(store.revoke_token(&token.id).await.unwrap());
        assert!(!store.revoke_token(&token.id).await.unwrap());
        let read = store.token(&token.id).await.unwrap().unwrap();
        assert!(!read.is_valid(fresh.clock.now()));
        assert_eq!(store.tokens().await.unwrap().len(), 1);
        assert!(store.token("nobody").await.unwrap().is_none());
    }
}
