// Package chain holds one hash chain of locked objects per tenant: the writer that the gateway runs, and the reader that checks
// a whole chain (Verify). The format is described in ../README.md.
//
// What the writer promises: a chunk is done only when its records are in an object under COMPLIANCE lock, asserted by
// HEAD, and in the sink (Loki). Objects are numbered from 1 without a gap, each holds the sha256 of the one before, and no
// number is ever given to two different objects, whatever the store answers or fails to answer.
package chain
