package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward/forwardtest"
)

// The contenders get the same records: what the gateway makes of a message is what is pushed and put without it.
func TestFormsHoldTheSameRecords(t *testing.T) {
	t.Parallel()
	s, err := newStock()
	require.NoError(t, err)
	const begin, n, first = 1000, 900, 123456
	now := time.Unix(1795527600, 42)
	entries := s.entries.write(nil, begin, n, first, now)
	texts := s.texts.write([]byte("before"), begin, n, first, now)[len("before"):]
	lines := bytes.SplitAfter(s.lines.write(nil, begin, n, first, now), []byte("\n"))
	require.Len(t, lines, n+1, "and nothing behind the last line")

	limits := forward.Limits{MessageBytes: 1 << 20, DecompressedBytes: 1 << 20, Depth: 32}
	for name, message := range map[string][]byte{"packed": forwardtest.Packed(tag, "id", entries), "compressed": forwardtest.Compressed(tag, "id", entries)} {
		m, err := forward.ReadMessage(bufio.NewReader(bytes.NewReader(message)), tenant, limits)
		require.NoError(t, err, name)
		require.Len(t, m.Chunk.Records, n, name)
		assert.Zero(t, m.Spoofed, name)
		at := 0
		for i, r := range m.Chunk.Records {
			text := texts[at : at+int(s.texts.size(begin+i, 1))]
			at += len(text)
			require.Equal(t, string(text), string(m.Chunk.JSON[r.From:r.To]), name)
			require.Equal(t, now.Add(time.Duration(i)*time.Microsecond).UnixNano(), r.Time)
			require.Equal(t, s.streams[s.stream[begin+i]], m.Chunk.Streams[r.Stream])
			var line struct {
				TS     int64 `json:"ts,string"`
				Record json.RawMessage
			}
			require.NoError(t, json.Unmarshal(lines[i], &line))
			require.Equal(t, string(text), string(line.Record))
			require.Equal(t, r.Time, line.TS)
			var record struct{ Message string }
			require.NoError(t, json.Unmarshal(text, &record))
			require.Contains(t, record.Message, " request=0000001")
		}
		assert.Len(t, m.Chunk.Streams, pods, "%s: several streams", name)
	}
	mean := float64(s.texts.size(0, stockRecords)) / stockRecords
	assert.True(t, mean > 300 && mean < 450, "records are %.0f bytes", mean)
}

func TestFitting(t *testing.T) {
	t.Parallel()
	s, err := newStock()
	require.NoError(t, err)
	n := s.texts.fitting(5, 1<<20, 24)
	assert.LessOrEqual(t, s.texts.size(5, n)+int64(n)*24, int64(1<<20))
	assert.Greater(t, s.texts.size(5, n+1)+int64(n+1)*24, int64(1<<20))
	assert.Equal(t, 1, s.texts.fitting(5, 1, 0), "one record always")
	assert.Equal(t, 2, s.texts.fitting(stockRecords-2, 1<<20, 0), "not beyond the end")
}
