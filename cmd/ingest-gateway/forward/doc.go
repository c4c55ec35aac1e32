// Package forward is the server side of the Fluentd forward protocol, version 1, over mutual TLS: the modes Message,
// Forward, PackedForward and CompressedPackedForward (gzip) with the options chunk, size and compressed.
//
// frame.go cuts messages out of a connection under hard limits; message.go reads them; record.go turns records into JSON
// and stamps the tenant on them; server.go keeps the connections.
//
// Not spoken: the handshake with a shared key (the client certificate says who it is) and UDP heartbeats.
package forward
