"""Images that are not running: configuration media, Ganeti's document, named deliveries, kernel images."""
