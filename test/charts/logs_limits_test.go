package charts

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tinylib/msgp/msgp"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward"
)

// smallGateway are the gateway's limits in size small, the tightest.
var smallGateway = forward.Limits{MessageBytes: 10 << 20, DecompressedBytes: 16 << 20, Depth: 32}

// submitTimeout is how long the gateway waits for a free reader, and again for room.
const submitTimeout = 80 * time.Second

// What the gateway refuses it refuses for ever, and whatever the node has to say waits behind it. So no chunk that the
// configuration lets Fluentd make may be refused, whatever a container writes.
func TestNoChunkIsRefused(t *testing.T) {
	t.Parallel()
	outputs := map[string]output{}
	conf := configured(t, logChart(t, "fluentd", nil), "fluent.conf")
	for _, m := range regexp.MustCompile(`(?s)<match ([^>]+)>\s+@type forward.*?</match>`).FindAllStringSubmatch(conf, -1) {
		o := output{match: m[1], params: map[string]string{}}
		for line := range strings.Lines(m[0]) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			o.params[key] = value
		}
		outputs[o.params["compress"]] = o
	}
	require.Len(t, outputs, 2)
	for compression, d := range outputs {
		seconds, err := strconv.Atoi(strings.TrimSuffix(d.params["ack_response_timeout"], "s"))
		require.NoError(t, err)
		assert.Greater(t, time.Duration(seconds)*time.Second, 2*submitTimeout, "%s: a chunk that waits would come twice", compression)
		size, err := strconv.Atoi(strings.TrimSuffix(d.params["chunk_limit_size"], "m"))
		require.NoError(t, err)
		assert.LessOrEqual(t, int64(size)<<20, smallGateway.MessageBytes-1<<20, "%s: there is a tag and an option beside", compression)
	}
	assert.Equal(t, "{containers,falco,trivy}", outputs["gzip"].match, "only lines with a bound")

	records, err := strconv.Atoi(outputs["gzip"].params["chunk_limit_records"])
	require.NoError(t, err)
	line := strings.Repeat("a", 16<<10) // containerd's max_container_log_line_size
	assert.NoError(t, deliverChunk(t, records, line))
	assert.ErrorContains(t, deliverChunk(t, records+records/4, line), "decompressed-too-big", "this test sees no limit")
}

// output is one that Fluentd delivers by, with the parameters of all its sections.
type output struct {
	match  string
	params map[string]string
}

// deliverChunk shows the gateway a compressed chunk of lines of the pod with the longest names.
func deliverChunk(t *testing.T, records int, line string) error {
	t.Helper()
	field := func(b []byte, key, value string) []byte { return msgp.AppendString(msgp.AppendString(b, key), value) }
	var record []byte
	record = msgp.AppendArrayHeader(record, 2)
	record = msgp.AppendInt64(record, 1767225663)
	record = msgp.AppendMapHeader(record, 9)
	for key, length := range map[string]int{"stream": 6, "logtag": 1, "time": 35, "namespace": 63, "pod": 253, "pod_uid": 36, "container": 63, "node": 253} {
		record = field(record, key, strings.Repeat("n", length))
	}
	record = field(record, "message", line)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for range records {
		_, err := z.Write(record)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	message := msgp.AppendArrayHeader(nil, 3)
	message = msgp.AppendString(message, "containers")
	message = msgp.AppendBytes(message, packed.Bytes())
	message = msgp.AppendMapHeader(message, 2)
	message = field(field(message, "compressed", "gzip"), "chunk", "id")
	m, err := forward.ReadMessage(bufio.NewReader(bytes.NewReader(message)), "tenant", smallGateway)
	if err == nil {
		assert.Len(t, m.Chunk.Records, records)
	}
	return err
}
