"""The CTranslate2 backend of core."""
