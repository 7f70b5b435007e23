"""OpenAI's API over the same rooms: https://platform.openai.com/docs/api-reference"""
