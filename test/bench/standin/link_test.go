package main

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLink holds the link to its distance: a connection costs a round trip before the first byte, and a question and
// its answer one more; many answers on their way at once cost no more than one.
func TestLink(t *testing.T) {
	t.Parallel()
	const roundTrip = 200 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn = slow(conn, roundTrip)
		defer conn.Close() //nolint:errcheck // a test's end
		buf := make([]byte, 1)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			for range 10 {
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ask := func() time.Duration {
		begin := time.Now()
		_, err := conn.Write([]byte("x"))
		require.NoError(t, err)
		for read := 0; read < 10; {
			n, err := conn.Read(make([]byte, 10))
			require.NoError(t, err)
			read += n
		}
		return time.Since(begin)
	}
	require.GreaterOrEqual(t, ask(), 2*roundTrip, "the connection's own round trip and the question's")
	took := ask()
	require.GreaterOrEqual(t, took, roundTrip)
	require.Less(t, took, 8*roundTrip, "ten answers must not wait for each other")
}
