-- The canonical store: an empty database `canonical` in which Crossdock makes its own schema.
CREATE ROLE crossdock LOGIN PASSWORD 'crossdock-store';
GRANT CONNECT, CREATE ON DATABASE canonical TO crossdock;
