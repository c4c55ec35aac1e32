// Package common stands in for the cloud SDK's package of the same path, whose module the module proxy refuses. It holds
// the names that flannel's tencent-vpc backend needs to compile; the lab never uses that backend.
package common

// BoolPtr returns a pointer to v.
func BoolPtr(v bool) *bool { return &v }

// StringPtr returns a pointer to v.
func StringPtr(v string) *string { return &v }

// StringPtrs returns a pointer to each element.
func StringPtrs(v []string) []*string {
	out := make([]*string, len(v))
	for i := range v {
		out[i] = &v[i]
	}
	return out
}
