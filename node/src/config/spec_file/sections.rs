//! Every field of spec.toml: what the readers accept and the reference documents.

use crate::config::source::{Field, Section};

macro_rules! sections {
    ($($section:literal as $konst:ident $doc:literal {
        $($name:literal : $takes:literal = $default:literal, $field_doc:literal;)*
    } $(unbuilt { $($unbuilt:literal : $part:literal;)* })?)*) => {
        $(pub(super) const $konst: Section = Section {
            name: $section,
            doc: $doc,
            fields: &[$(Field { name: $name, takes: $takes, default: $default, doc: $field_doc }),*],
            unbuilt: &[$($(($unbuilt, $part)),*)?],
        };)*
        /// The sections in the order of the reference.
        pub const SECTIONS: &[&Section] = &[$(&$konst),*];
    };
}

sections! {
    "" as ROOT "" {
        "providers": "tables by name" = "", "Who can be called.";
        "models": "tables by name" = "", "What clients can ask for.";
        "keys": "tables by name" = "", "Who may enter. None: no client may.";
        "defaults": "table" = "", "Rules for whatever says nothing nearer.";
        "policies": "table" = "", "Rules of the cluster as a whole.";
    } unbuilt {
        "teams": "teams are";
    }
    "providers.NAME" as PROVIDER "A model provider." {
        "wire": "`openai` or `anthropic`" = "", "Required. Which dialect it speaks.";
        "base_url": "URL" = "", "What that vendor's own SDK takes. Default: the vendor's own (`https://api.openai.com/v1`, `https://api.anthropic.com`); required with `azure`.";
        "keys": "list of tables" = "", "Its keys, drawn by weight. None: no credential is sent.";
        "auth": "`bearer`, `x-api-key` or `api-key`" = "", "The header a key travels in. Default: `bearer` for `openai`, `x-api-key` for `anthropic`, `api-key` with `azure`.";
        "azure": "table" = "", "Calls go to `{base_url}/openai/deployments/{model}/...?api-version=...`.";
        "headers": "table of text" = "", "Headers that go with each call. No secrets, and none that carry credentials or steer the connection.";
        "ca": "secret" = "", "PEM certificates that are trusted for it in place of the system's.";
        "proxy": "URL" = "", "An HTTP proxy that its calls go through, `http://host:port`.";
        "timeouts": "table" = "", "See `defaults.timeouts`.";
        "retries": "table" = "", "See `defaults.retries`.";
        "breaker": "table" = "", "See `defaults.breaker`.";
        "concurrency": "table" = "", "See `defaults.concurrency`.";
    }
    "providers.NAME.keys[]" as CREDENTIAL "One key of a provider." {
        "name": "name" = "", "Required. Its name in logs and metrics.";
        "secret": "secret" = "", "Required. What is shown to the provider.";
        "weight": "count" = "1", "Its share among the provider's keys, from 1 to 1000000.";
        "models": "list of patterns" = "", "The models, by the provider's names, that it is good for. Default: all.";
    }
    "providers.NAME.azure" as AZURE "What Azure wants." {
        "api_version": "text" = "", "Required. The `api-version` of each call.";
    }
    "models.NAME" as MODEL "A name clients ask for, and the pool behind it. With `*` at its end it serves all names that begin so; the longest beginning wins, an exact name before any." {
        "targets": "list of tables" = "", "Required. Where its calls can go, 1 to 64.";
        "fallbacks": "list of names" = "", "Other names that this file serves, tried in order when no target can; at most 16.";
        "hedge": "table" = "", "Begins a stream a second time when its start is slow. Absent: never.";
        "affinity": "`off` or `prefix`" = "off", "`prefix`: prompts that begin alike go to the same target while it is not busier than the others, so that the provider's prompt cache stays warm.";
        "on_break": "`error` or `continue`" = "error", "What happens to a stream that breaks after its first content: it ends with an error event, or another target continues the text.";
        "timeouts": "table" = "", "See `defaults.timeouts`.";
        "retries": "table" = "", "See `defaults.retries`.";
        "breaker": "table" = "", "See `defaults.breaker`.";
        "concurrency": "table" = "", "See `defaults.concurrency`.";
    }
    "models.NAME.targets[]" as TARGET "One way to serve a model." {
        "provider": "name" = "", "Required. A provider of this file.";
        "model": "text" = "", "The model's name there. Default: the name that was asked for.";
        "weight": "count" = "1", "Its share among the targets of the same priority, from 1 to 1000000.";
        "priority": "count" = "0", "Lower goes first; a higher one only when no lower one can serve. From 0 to 1000.";
    }
    "models.NAME.hedge" as HEDGE "When a stream that has not begun is begun at a second target too. The first to speak is taken, the other cancelled. `{}` takes both defaults." {
        "after": "duration" = "2s", "How long the first target may stay silent, from 10ms to 5m.";
        "budget": "share" = "5%", "Second starts as a share of the model's calls of the last 10 s; 1 a second is always allowed.";
    }
    "defaults" as DEFAULTS "Each table may also stand in a provider or a model; the nearest wins, field by field." {
        "timeouts": "table" = "", "How long each step may take.";
        "retries": "table" = "", "How often a call may be tried.";
        "breaker": "table" = "", "When a target rests.";
        "concurrency": "table" = "", "How many calls a target may have in flight. Absent: as many as come.";
    }
    "defaults.timeouts" as TIMEOUTS "How long each step of an upstream call may take, from 1ms to 24h." {
        "connect": "duration" = "2s", "To open a connection, TLS included.";
        "first_byte": "duration" = "60s", "From the request to the first byte of the reply.";
        "idle": "duration" = "60s", "Between two pieces of a reply.";
        "total": "duration" = "10m", "The whole call.";
    }
    "defaults.retries" as RETRIES "How often a call may be tried. Only before its first content reached the client." {
        "attempts": "count" = "3", "Attempts in all, the first included; from 1 to 10.";
        "budget": "share" = "20%", "Retries as a share of the model's calls of the last 10 s; 10 a second are always allowed.";
        "backoff": "duration" = "25ms", "The wait before another try at the same target, jittered; it doubles each time. From 1ms to 1m. Another target is tried at once.";
        "backoff_max": "duration" = "250ms", "The longest such wait, from 1ms to 5m.";
        "wait_max": "duration" = "5s", "The longest wait for a provider's Retry-After inside a call, from 0s (never) to 10m.";
    }
    "defaults.breaker" as BREAKER "When a target (provider, key and model there) rests." {
        "failures": "count" = "5", "Failures within `window` that rest it, from 1 to 1000.";
        "window": "duration" = "10s", "The window they are counted in, from 100ms to 1h.";
        "share": "share" = "50%", "The share of the window's calls that must have failed as well. `0%`: the count alone decides.";
        "rest": "duration" = "5s", "The first rest, from 100ms to 1h; it doubles with each one that follows closely.";
        "rest_max": "duration" = "60s", "The longest rest, from 100ms to 24h.";
        "credential_rest": "duration" = "30m", "The rest after the provider refused the key, from 1s to 24h. It ends early when the key works again.";
        "slow_start": "duration" = "10s", "How long traffic grows back to full weight after a rest, from 0s (at once) to 1h.";
        "panic": "share" = "0%", "When less than this share of a model's targets can serve, rests for failures are ignored. `0%`: never.";
    }
    "defaults.concurrency" as CONCURRENCY "A limit of calls in flight per target that follows its time to first token. Off where the table is absent; `{}` takes both defaults." {
        "min": "count" = "4", "The limit never falls below this; from 1 to 100000.";
        "max": "count" = "200", "The limit never rises above this; from 1 to 100000.";
    }
    "policies" as POLICIES "Rules of the cluster as a whole." {
        "freshness": "duration or `never`" = "5m", "How old a node's knowledge may be, by the last time a majority of nodes confirmed it, before the node answers 503; from 5s to 24h. `never`: a node that is cut off serves on, and a key that was revoked meanwhile goes on working there.";
    }
    "keys.NAME" as KEY "A virtual key: what a client shows to enter. Only a hash of it is kept." {
        "secret": "secret" = "", "Its secret. Default: one is made once, shown once, and its hash kept in the data directory.";
        "hash": "text" = "", "SHA-256 of its secret in place of the secret: 64 hexadecimal digits, with or without `sha256:` before them.";
        "models": "list of patterns" = "", "The models it may ask for. Default: all.";
        "expires": "time" = "", "When it stops working. Default: never.";
        "metadata": "table of text" = "", "Words of your own, at most 64.";
        "pin": "yes or no" = "false", "Whether it may choose the target of a call by the header `x-troupe-target`.";
    } unbuilt {
        "team": "teams are";
        "limits": "limits of keys are";
        "budgets": "budgets are";
    }
}
