# `bash fetch_weights.sh MODEL FOLDER`: puts a checkpoint of openai-whisper into the folder, for an image that carries its weights.
python -c "import sys, whisper; whisper.load_model(sys.argv[1], device='cpu', download_root=sys.argv[2])" "$1" "$2"
