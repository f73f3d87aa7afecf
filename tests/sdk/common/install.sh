# Installs what tests need into a cache; to be sourced by a script that has set `root` and `target`.
# Each function prints the path of what it made and talks on stderr only.

# Without it a failed install inside $( ) would go on and be stamped as good.
shopt -s inherit_errexit

# need BINARY CARGO_ARGS...: builds a release binary unless it is there.
need() {
    local binary=$1
    shift
    [[ -x "$target/$binary" ]] || (cd "$root" && cargo build --release --locked "$@") >&2
}

# venv FOLDER REQUIREMENTS: a virtual environment with exactly these packages.
venv() {
    local folder=$1 pins=$2 stamp
    stamp=$(sha256sum <"$pins")
    if [[ ! -x "$folder/bin/python" || "$(cat "$folder/.pins" 2>/dev/null)" != "$stamp" ]]; then
        rm -rf "$folder"
        mkdir -p "$(dirname "$folder")"
        python3 -m venv "$folder" >&2
        "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins" >&2
        # Written last: an install that was interrupted is not taken for a good one.
        printf '%s\n' "$stamp" >"$folder/.pins"
    fi
    printf '%s\n' "$folder/bin/python"
}

# node_modules FOLDER SOURCE: the packages of SOURCE/package-lock.json.
node_modules() {
    local folder=$1 source=$2 stamp
    stamp=$(cat "$source/package.json" "$source/package-lock.json" | sha256sum)
    if [[ ! -x "$folder/node_modules/.bin/node" || "$(cat "$folder/.pins" 2>/dev/null)" != "$stamp" ]]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$source/package.json" "$source/package-lock.json" "$folder/"
        (cd "$folder" && npm ci --no-fund --no-audit --loglevel=error) >&2
        "$folder/node_modules/.bin/node" --version >&2
        printf '%s\n' "$stamp" >"$folder/.pins"
    fi
    printf '%s\n' "$folder/node_modules"
}
