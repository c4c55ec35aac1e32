package door

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// stamp says how a write request is rewritten.
type stamp struct {
	tenant string
	// drop are the labels that only the service cluster may set.
	drop map[string]bool
	// newest is the latest time a sample may have, in milliseconds since 1970.
	newest int64
	// maxSeries and maxLabels bound a request.
	maxSeries, maxLabels int
}

// clusterLabel is set by the gateway alone.
const clusterLabel = "cluster"

// written counts what is in a rewritten request.
type written struct {
	series, samples, histograms, exemplars int
	// future counts what was left out because it lies in the future.
	future int
	// spoofed counts series that came with another cluster, or with a label of drop.
	spoofed int
}

func (w written) total() int { return w.samples + w.histograms + w.exemplars }

type label struct{ name, value string }

var errMalformed = errors.New("not a write request")

// Only known fields are carried over, so that nothing passes that was not looked at. The numbers are those of
// prometheus/prompb/{remote,types}.proto and .../write/v2/types.proto.

// fields calls f for each field of a message.
func fields(b []byte, f func(num protowire.Number, typ protowire.Type, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		m := protowire.ConsumeFieldValue(num, typ, b)
		if m < 0 {
			return errMalformed
		}
		if err := f(num, typ, b[:m]); err != nil {
			return err
		}
		b = b[m:]
	}
	return nil
}

func message(typ protowire.Type, v []byte) ([]byte, error) {
	if typ != protowire.BytesType {
		return nil, errMalformed
	}
	m, n := protowire.ConsumeBytes(v)
	if n < 0 {
		return nil, errMalformed
	}
	return m, nil
}

func text(typ protowire.Type, v []byte) (string, error) {
	m, err := message(typ, v)
	if err != nil || !utf8.Valid(m) {
		return "", errMalformed
	}
	return string(m), nil
}

func appendMessage(dst []byte, num protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), m)
}

// number1 rewrites a remote write 1.0 request.
func (s stamp) number1(b []byte) ([]byte, written, error) {
	var out []byte
	var w written
	err := fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		switch num {
		case 1:
			m, err := message(typ, v)
			if err != nil {
				return err
			}
			if w.series++; w.series > s.maxSeries {
				return fmt.Errorf("more than %d series in one request", s.maxSeries)
			}
			series, err := s.series1(m, &w)
			if err == nil && series != nil {
				out = appendMessage(out, 1, series)
			}
			return err
		case 3:
			m, err := message(typ, v)
			if err == nil {
				out = appendMessage(out, 3, m)
			}
			return err
		}
		return nil
	})
	return out, w, err
}

// series1 returns nil when nothing is left of a series.
func (s stamp) series1(b []byte, w *written) ([]byte, error) {
	var labels []label
	var rest []byte
	before := w.total()
	err := fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num < 1 || num > 4 {
			return nil
		}
		m, err := message(typ, v)
		if err != nil {
			return err
		}
		if num == 1 {
			l, err := readLabel(m)
			labels = append(labels, l)
			return err
		}
		at, err := s.time(m, map[protowire.Number]protowire.Number{2: 2, 3: 3, 4: 15}[num])
		if err != nil {
			return err
		}
		if at > s.newest {
			w.future++
			return nil
		}
		count(w, num)
		rest = appendMessage(rest, num, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	labels, err = s.labels(labels, w)
	if err != nil || w.total() == before {
		return nil, err
	}
	var out []byte
	for _, l := range labels {
		out = appendMessage(out, 1, encodeLabel(l))
	}
	return append(out, rest...), nil
}

// count counts by the field's number in a 1.0 series.
func count(w *written, num protowire.Number) {
	switch num {
	case 2:
		w.samples++
	case 3:
		w.exemplars++
	case 4:
		w.histograms++
	}
}

func readLabel(b []byte) (label, error) {
	var l label
	err := fields(b, func(num protowire.Number, typ protowire.Type, v []byte) (err error) {
		switch num {
		case 1:
			l.name, err = text(typ, v)
		case 2:
			l.value, err = text(typ, v)
		}
		return err
	})
	return l, err
}

// time returns the timestamp of a sample, an exemplar or a histogram: the last of them counts, as in every protobuf
// decoder.
func (s stamp) time(b []byte, field protowire.Number) (int64, error) {
	var at int64
	err := fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num != field {
			return nil
		}
		n, size := protowire.ConsumeVarint(v)
		if typ != protowire.VarintType || size < 0 {
			return errMalformed
		}
		at = int64(n)
		return nil
	})
	return at, err
}

// labels leaves out what only the gateway or the service cluster may set, adds the cluster, and keeps the order by name
// that the protocol asks for.
func (s stamp) labels(labels []label, w *written) ([]label, error) {
	if len(labels) > s.maxLabels {
		return nil, fmt.Errorf("a series with more than %d labels", s.maxLabels)
	}
	spoofed := false
	kept := slices.DeleteFunc(labels, func(l label) bool {
		if l.name == clusterLabel {
			spoofed = spoofed || l.value != s.tenant
			return true
		}
		spoofed = spoofed || s.drop[l.name]
		return s.drop[l.name]
	})
	if spoofed {
		w.spoofed++
	}
	kept = append(kept, label{clusterLabel, s.tenant})
	slices.SortStableFunc(kept, func(a, b label) int { return cmp.Compare(a.name, b.name) })
	return kept, nil
}

// number2 rewrites a remote write 2.0 request, whose series name their labels by place in a table of symbols, into a 1.0
// one: Thanos Receive (v0.42) takes a 2.0 request for an empty one and answers 200. Metadata and start times, which it
// does not keep, are left out.
func (s stamp) number2(b []byte) ([]byte, written, error) {
	var symbols []string
	var series [][]byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		switch num {
		case 4:
			t, err := text(typ, v)
			symbols = append(symbols, t)
			return err
		case 5:
			m, err := message(typ, v)
			if series = append(series, m); len(series) > s.maxSeries {
				return fmt.Errorf("more than %d series in one request", s.maxSeries)
			}
			return err
		}
		return nil
	})
	w := written{series: len(series)}
	if err != nil {
		return nil, w, err
	}
	var out []byte
	for _, m := range series {
		as1, err := asNumber1(m, symbols)
		if err != nil {
			return nil, w, err
		}
		if as1, err = s.series1(as1, &w); err != nil {
			return nil, w, err
		}
		if as1 != nil {
			out = appendMessage(out, 1, as1)
		}
	}
	return out, w, nil
}

// asNumber1 turns a series of 2.0 into one of 1.0: its labels are spelled out, exemplars (4) and histograms (3) change
// places. The messages of samples and histograms are the same but for the start times.
func asNumber1(b []byte, symbols []string) ([]byte, error) {
	var refs []uint64
	var rest []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		switch num {
		case 1:
			var err error
			refs, err = appendRefs(refs, typ, v)
			return err
		case 2, 3:
			m, err := message(typ, v)
			rest = appendMessage(rest, map[protowire.Number]protowire.Number{2: 2, 3: 4}[num], m)
			return err
		case 4:
			m, err := message(typ, v)
			if err != nil {
				return err
			}
			m, err = exemplar1(m, symbols)
			rest = appendMessage(rest, 3, m)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out, err := appendLabels(nil, refs, symbols)
	return append(out, rest...), err
}

func exemplar1(b []byte, symbols []string) ([]byte, error) {
	var refs []uint64
	var rest []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, v []byte) (err error) {
		switch num {
		case 1:
			refs, err = appendRefs(refs, typ, v)
		case 2, 3:
			rest = append(protowire.AppendTag(rest, num, typ), v...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out, err := appendLabels(nil, refs, symbols)
	return append(out, rest...), err
}

// appendLabels spells out references to names and values, in turns, as 1.0 labels (field 1).
func appendLabels(dst []byte, refs []uint64, symbols []string) ([]byte, error) {
	if len(refs)%2 != 0 {
		return nil, fmt.Errorf("%d label references, expected pairs", len(refs))
	}
	for i := 0; i < len(refs); i += 2 {
		if max(refs[i], refs[i+1]) >= uint64(len(symbols)) {
			return nil, fmt.Errorf("a label refers to symbol %d of %d", max(refs[i], refs[i+1]), len(symbols))
		}
		dst = appendMessage(dst, 1, encodeLabel(label{symbols[refs[i]], symbols[refs[i+1]]}))
	}
	return dst, nil
}

func encodeLabel(l label) []byte {
	m := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), l.name)
	return protowire.AppendString(protowire.AppendTag(m, 2, protowire.BytesType), l.value)
}

// appendRefs reads packed or single numbers.
func appendRefs(refs []uint64, typ protowire.Type, v []byte) ([]uint64, error) {
	if typ == protowire.BytesType {
		m, err := message(typ, v)
		if err != nil {
			return nil, err
		}
		v = m
	} else if typ != protowire.VarintType {
		return nil, errMalformed
	}
	for len(v) > 0 {
		n, size := protowire.ConsumeVarint(v)
		if size < 0 {
			return nil, errMalformed
		}
		refs, v = append(refs, n), v[size:]
	}
	return refs, nil
}
