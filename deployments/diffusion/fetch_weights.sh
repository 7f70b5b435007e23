# `bash fetch_weights.sh REPOSITORY FOLDER`: puts a pipeline of the Hugging Face hub below the folder, for an image that carries its weights.
hf download "$1" --exclude "*.bin" --local-dir "$2/${1##*/}"
