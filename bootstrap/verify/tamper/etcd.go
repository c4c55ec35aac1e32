package tamper

import "google.golang.org/protobuf/encoding/protowire"

// The fields are those of etcdserverpb (api/etcdserverpb/rpc.proto): RangeRequest key 1, range_end 2, limit 3; PutRequest key
// 1, value 2; DeleteRangeRequest key 1. The key is one that nobody has.

const etcdKey = "catamaran-verify"

func etcdField(num protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), value)
}

func etcdFirst() []byte {
	out := append(etcdField(1, "\x00"), etcdField(2, "\x00")...)
	return protowire.AppendVarint(protowire.AppendTag(out, 3, protowire.VarintType), 1)
}

func etcdPut() []byte { return append(etcdField(1, etcdKey), etcdField(2, "forged")...) }

func etcdDelete() []byte { return etcdField(1, etcdKey) }
