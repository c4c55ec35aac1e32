package forward

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// maxLabel is the longest label value, in bytes: Kubernetes names have at most 253.
const maxLabel = 253

// recorder turns records into JSON. Its memory of the last record's labels saves most of the work on the next.
type recorder struct {
	tenant []byte // as a JSON string
	name   string
	depth  int
	source string

	spoofed int
	found   [fieldCount][]byte
	last    chain.Labels
}

// field is a place in a record that a label is read from. Where several name the same label the first one wins.
type field int

const (
	k8sNamespace field = iota
	k8sPod
	k8sContainer
	k8sNode
	topNamespace
	topPod
	topContainer
	topNode
	topHostname
	topHost
	fieldCount
)

// Where the labels come from: the `kubernetes` map that Fluentd's metadata filter adds, or fields of the record itself.
func topField(key []byte) (field, bool) {
	switch string(key) {
	case "namespace":
		return topNamespace, true
	case "pod":
		return topPod, true
	case "container":
		return topContainer, true
	case "node":
		return topNode, true
	case "hostname":
		return topHostname, true
	case "host":
		return topHost, true
	}
	return 0, false
}

func k8sField(key []byte) (field, bool) {
	switch string(key) {
	case "namespace_name":
		return k8sNamespace, true
	case "pod_name":
		return k8sPod, true
	case "container_name":
		return k8sContainer, true
	case "host":
		return k8sNode, true
	}
	return 0, false
}

// record appends a record's JSON to dst. The fields cluster and tenant are the gateway's: what the client said there is
// left out.
func (r *recorder) record(dst, b []byte) (out []byte, labels chain.Labels, rest []byte, err error) {
	r.found = [fieldCount][]byte{}
	dst = append(dst, '{')
	if msgp.NextType(b) == msgp.MapType {
		var n uint32
		if n, b, err = msgp.ReadMapHeaderBytes(b); err != nil {
			return nil, labels, nil, err
		}
		claimed := false
		for range n {
			var key []byte
			if key, b, err = mapKey(b); err != nil {
				return nil, labels, nil, err
			}
			if k := string(key); k == "cluster" || k == "tenant" {
				size, err := valueSize(b)
				if err != nil {
					return nil, labels, nil, err
				}
				if v, _, err := text(b[:size]); err != nil || string(v) != r.name {
					claimed = true
				}
				b = b[size:]
				continue
			}
			dst = appendString(dst, key)
			dst = append(dst, ':')
			if string(key) == "kubernetes" && msgp.NextType(b) == msgp.MapType {
				dst, b, err = r.kubernetes(dst, b)
			} else {
				if f, ok := topField(key); ok {
					r.note(f, b)
				}
				dst, b, err = r.value(dst, b, 1)
			}
			if err != nil {
				return nil, labels, nil, err
			}
			dst = append(dst, ',')
		}
		if claimed {
			r.spoofed++
		}
	} else {
		// Not a record, but what the client wants kept.
		dst = append(dst, `"message":`...)
		if dst, b, err = r.value(dst, b, 1); err != nil {
			return nil, labels, nil, err
		}
		dst = append(dst, ',')
	}
	dst = append(dst, `"cluster":`...)
	dst = append(dst, r.tenant...)
	dst = append(dst, `,"tenant":`...)
	dst = append(dst, r.tenant...)
	dst = append(dst, '}')
	return dst, r.labels(), b, nil
}

func (r *recorder) kubernetes(dst, b []byte) ([]byte, []byte, error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, nil, err
	}
	dst = append(dst, '{')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		var key []byte
		if key, b, err = mapKey(b); err != nil {
			return nil, nil, err
		}
		if f, ok := k8sField(key); ok {
			r.note(f, b)
		}
		dst = append(appendString(dst, key), ':')
		if dst, b, err = r.value(dst, b, 2); err != nil {
			return nil, nil, err
		}
	}
	return append(dst, '}'), b, nil
}

func (r *recorder) note(f field, b []byte) {
	if t := msgp.NextType(b); t != msgp.StrType && t != msgp.BinType {
		return
	}
	if v, _, err := text(b); err == nil && len(v) > 0 {
		r.found[f] = v
	}
}

func (r *recorder) labels() chain.Labels {
	pick := func(last string, fields ...field) string {
		for _, f := range fields {
			if v := r.found[f]; v != nil {
				if string(v) == last {
					return last
				}
				return clean(v, maxLabel)
			}
		}
		return ""
	}
	r.last = chain.Labels{
		Source:    r.source,
		Namespace: pick(r.last.Namespace, k8sNamespace, topNamespace),
		Pod:       pick(r.last.Pod, k8sPod, topPod),
		Container: pick(r.last.Container, k8sContainer, topContainer),
		Node:      pick(r.last.Node, k8sNode, topNode, topHostname, topHost),
	}
	return r.last
}

// source is the part of a tag up to its first dot: kubernetes.var.log.x comes from kubernetes.
func source(tag []byte) string {
	for i, c := range tag {
		if c == '.' {
			tag = tag[:i]
			break
		}
	}
	return clean(tag, 64)
}

// clean makes text of bytes: valid, without control characters, at most limit bytes.
func clean(b []byte, limit int) string {
	s := strings.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7f {
			return -1
		}
		return c
	}, strings.ToValidUTF8(string(b[:min(len(b), limit)]), ""))
	return s
}

// mapKey reads a map's key as text. Keys of other types are written as their JSON.
func mapKey(b []byte) (key, rest []byte, err error) {
	if t := msgp.NextType(b); t == msgp.StrType || t == msgp.BinType {
		return text(b)
	}
	size, err := valueSize(b)
	if err != nil {
		return nil, nil, err
	}
	r := recorder{depth: 1}
	key, _, err = r.value(nil, b[:size], 1)
	return key, b[size:], err
}

// value appends the JSON of the value that b begins with.
func (r *recorder) value(dst, b []byte, depth int) (out, rest []byte, err error) {
	switch msgp.NextType(b) {
	case msgp.StrType, msgp.BinType:
		v, rest, err := text(b)
		if err != nil {
			return nil, nil, err
		}
		return appendString(dst, v), rest, nil
	case msgp.MapType, msgp.ArrayType:
		if depth >= r.depth {
			return raw(dst, b)
		}
		return r.container(dst, b, depth)
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(b)
		return append(dst, "null"...), rest, err
	case msgp.BoolType:
		v, rest, err := msgp.ReadBoolBytes(b)
		return strconv.AppendBool(dst, v), rest, err
	case msgp.IntType:
		v, rest, err := msgp.ReadInt64Bytes(b)
		return strconv.AppendInt(dst, v, 10), rest, err
	case msgp.UintType:
		v, rest, err := msgp.ReadUint64Bytes(b)
		return strconv.AppendUint(dst, v, 10), rest, err
	case msgp.Float64Type:
		v, rest, err := msgp.ReadFloat64Bytes(b)
		return appendFloat(dst, v, 64), rest, err
	case msgp.Float32Type:
		v, rest, err := msgp.ReadFloat32Bytes(b)
		return appendFloat(dst, float64(v), 32), rest, err
	case msgp.InvalidType:
		return nil, nil, errors.New("not MessagePack")
	default: // an extension
		return raw(dst, b)
	}
}

func (r *recorder) container(dst, b []byte, depth int) (out, rest []byte, err error) {
	var n uint32
	isMap := msgp.NextType(b) == msgp.MapType
	first, last := byte('['), byte(']')
	if isMap {
		first, last = '{', '}'
		n, b, err = msgp.ReadMapHeaderBytes(b)
	} else {
		n, b, err = msgp.ReadArrayHeaderBytes(b)
	}
	if err != nil {
		return nil, nil, err
	}
	dst = append(dst, first)
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if isMap {
			var key []byte
			if key, b, err = mapKey(b); err != nil {
				return nil, nil, err
			}
			dst = append(appendString(dst, key), ':')
		}
		if dst, b, err = r.value(dst, b, depth+1); err != nil {
			return nil, nil, err
		}
	}
	return append(dst, last), b, nil
}

// raw appends a value that has no JSON, or nests too deep for it, as base64 of its MessagePack.
func raw(dst, b []byte) (out, rest []byte, err error) {
	size, err := valueSize(b)
	if err != nil {
		return nil, nil, err
	}
	dst = append(dst, `"msgpack:`...)
	dst = base64.StdEncoding.AppendEncode(dst, b[:size])
	return append(dst, '"'), b[size:], nil
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		dst = append(dst, '"')
		dst = strconv.AppendFloat(dst, f, 'g', -1, bits)
		return append(dst, '"')
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string. Bytes that are not UTF-8 become U+FFFD, as they would in any JSON library.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[from:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		if r, size := utf8.DecodeRune(s[i:]); r != utf8.RuneError || size > 1 {
			i += size
			continue
		}
		dst = append(dst, s[from:i]...)
		dst = append(dst, "\ufffd"...)
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
