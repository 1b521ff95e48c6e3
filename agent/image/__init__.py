"""Images that do not run: media, documents and deliveries made for them, kernel images."""
