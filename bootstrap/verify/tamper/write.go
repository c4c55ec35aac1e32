package tamper

import (
	"math"
	"sort"
	"strconv"
	"time"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

// marker is the metric that is delivered before the attack.
const marker = "catamaran_verify_marker"

// markerAge is how old the marker's sample is made, so that there is room for one behind it.
const markerAge = time.Minute

func nanoseconds(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// sample is a remote write of one sample, ahead of the beginning of the run by so much. Every series has the run's name.
func sample(name string, value float64, ahead time.Duration, labels ...string) func(vars) []byte {
	return func(v vars) []byte {
		at := time.Now() // a series takes no older samples, and an attack has many
		return writeRequest(v, name, value, at.Add(ahead), labels...)
	}
}

func markerSample(v vars) []byte { return writeRequest(v, marker, 1, v.now.Add(-markerAge)) }

// overwriteMarker gives the marker's time another value, shadowMarker does it in a series that differs in a label that the
// store sets itself, beforeMarker is older.
func overwriteMarker(v vars) []byte { return writeRequest(v, marker, 2, v.now.Add(-markerAge)) }
func shadowMarker(v vars) []byte {
	return writeRequest(v, marker, 3, v.now.Add(-markerAge), "tenant_id", v.tenant)
}
func beforeMarker(v vars) []byte { return writeRequest(v, marker, 4, v.now.Add(-2*markerAge)) }

// writeRequest encodes prometheus.WriteRequest (prompb/remote.proto, types.proto), compressed as the protocol asks.
func writeRequest(v vars, name string, value float64, at time.Time, labels ...string) []byte {
	set := map[string]string{"__name__": name, "run": v.run}
	for i := 0; i+1 < len(labels); i += 2 {
		set[labels[i]] = labels[i+1]
	}
	names := make([]string, 0, len(set))
	for n := range set {
		names = append(names, n)
	}
	sort.Strings(names)
	var series []byte
	for _, n := range names {
		l := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), n)
		l = protowire.AppendString(protowire.AppendTag(l, 2, protowire.BytesType), set[n])
		series = protowire.AppendBytes(protowire.AppendTag(series, 1, protowire.BytesType), l)
	}
	s := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), math.Float64bits(value))
	s = protowire.AppendVarint(protowire.AppendTag(s, 2, protowire.VarintType), uint64(at.UnixMilli()))
	series = protowire.AppendBytes(protowire.AppendTag(series, 2, protowire.BytesType), s)
	return snappy.Encode(nil, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), series))
}

// writeHeader is what remote write 1.0 is sent with.
func writeHeader() map[string]string {
	return map[string]string{
		"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0",
	}
}
