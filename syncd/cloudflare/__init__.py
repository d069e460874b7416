"""The only room that speaks HTTP: gate, credentials, envelope, transport, and one thin typed client per API."""
