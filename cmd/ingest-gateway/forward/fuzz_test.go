package forward_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tinylib/msgp/msgp"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward/forwardtest"
)

// Whatever a client sends, the reader returns: messages whose records are JSON objects stamped with the tenant, or an error
// that says whose fault it was. It never takes more memory than the limits say.
func FuzzReadMessage(f *testing.F) {
	at := time.Unix(1790000000, 5)
	r := forwardtest.Record{Time: at, Fields: map[string]any{
		"log": "text \x00\xff \"", "n": 5, "f": 1.5, "cluster": "x", "nested": map[string]any{"a": []any{nil, true, "x"}},
		"kubernetes": map[string]any{"namespace_name": "ns", "pod_name": "p"}, "b": []byte{1, 0xc3}, "t": at,
	}}
	f.Add(forwardtest.Message("a.b", "id", r))
	f.Add(forwardtest.Forward("a.b", "id", r, r))
	f.Add(forwardtest.Packed("a.b", "id", forwardtest.Entries(r, r)))
	f.Add(forwardtest.Compressed("a.b", "id", forwardtest.Entries(r), forwardtest.Entries(r)))
	f.Add(append(forwardtest.Message("a", "1", r), forwardtest.Packed("b", "2", nil)...))
	f.Add(msgp.AppendInt(msgp.AppendString(msgp.AppendArrayHeader(nil, 3), "t"), 1790000000))
	f.Add([]byte{0x93, 0xa1, 't', 0xc6, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x93, 0xa1, 't', 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add(bytes.Repeat([]byte{0x91}, 3000))
	limits := forward.Limits{MessageBytes: 64 << 10, DecompressedBytes: 128 << 10, Depth: 8}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bufio.NewReader(bytes.NewReader(b))
		for {
			m, err := forward.ReadMessage(in, "umea", limits)
			if err != nil {
				var refusal *forward.Refusal
				require.True(t, errors.As(err, &refusal) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
				return
			}
			require.LessOrEqual(t, m.WireBytes, 64<<10)
			require.LessOrEqual(t, len(m.Chunk.Records), 128<<10/32)
			require.LessOrEqual(t, len(m.Chunk.JSON), 8*(128<<10)+len(m.Chunk.Records)*64)
			for _, r := range m.Chunk.Records {
				require.Less(t, int(r.Stream), len(m.Chunk.Streams))
				var got struct {
					Cluster, Tenant any
				}
				text := m.Chunk.JSON[r.From:r.To]
				require.True(t, json.Valid(text), "%q", text)
				var all map[string]any
				require.NoError(t, json.Unmarshal(text, &all))
				got.Cluster, got.Tenant = all["cluster"], all["tenant"]
				require.Equal(t, "umea", got.Cluster)
				require.Equal(t, "umea", got.Tenant)

			}
		}
	})
}
