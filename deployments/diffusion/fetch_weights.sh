# `bash fetch_weights.sh REPOSITORY@COMMIT FOLDER`: puts a pipeline of the Hugging Face hub below the folder, for an image that carries its weights.
if ! [[ "$1" =~ ^[^@]+@[0-9a-f]{40}$ ]]; then
    echo "the weights $1 name no commit: write REPOSITORY@COMMIT with its 40 digits, since what a branch holds can change" >&2
    exit 1
fi
repository="${1%@*}"
hf download "${repository}" --revision "${1#*@}" --exclude "*.bin" --local-dir "$2/${repository##*/}"
