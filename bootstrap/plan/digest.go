package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
)

// stepDigest covers what a step would do and what it waits for.
func stepDigest(s Step) string {
	data, err := json.Marshal(struct {
		ID    string
		Kind  string
		Needs []string
		Lock  string
		Files []FileChange
		Task  Task
	}{s.ID, fmt.Sprintf("%T", s.Task), s.Needs, s.Lock, s.Files, s.Task})
	if err != nil {
		// tasks are plain data: not marshalling is a bug, and a constant digest would hide changes
		panic(fmt.Sprintf("step %s: %v", s.ID, err))
	}
	return sum(string(data))
}

// Digest is of all that a plan does, in order.
func Digest(p Plan) string {
	h := sha256.New()
	for _, c := range p.Changes {
		_, _ = fmt.Fprintf(h, "change %s %s\n", c.Cluster, c.Words()) // a hash never fails
	}
	for _, s := range p.Steps {
		_, _ = fmt.Fprintf(h, "%s %s\n", s.ID, s.Digest) // a hash never fails
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// WriteFile saves a plan for `apply FILE`.
func WriteFile(path string, p Plan) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(path, append(data, '\n'), 0o600)
}

// ReadFile reads a saved plan. Its steps have no tasks: apply plans again and compares.
func ReadFile(path string) (Plan, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Plan{}, err
	}
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return Plan{}, fmt.Errorf("%s is not a plan: %w", path, err)
	}
	if p.Digest != Digest(p) {
		return Plan{}, fmt.Errorf("%s was changed after it was saved: plan again", path)
	}
	return p, nil
}

// Moved says how a fresh plan differs from a saved one; nothing: they are the same.
func Moved(saved, fresh Plan) []string {
	if saved.Digest == fresh.Digest {
		return nil
	}
	out := movedChanges(saved.Changes, fresh.Changes)
	old := map[string]string{}
	for _, s := range saved.Steps {
		old[s.ID] = s.Digest
	}
	for _, s := range fresh.Steps {
		d, ok := old[s.ID]
		switch {
		case !ok:
			out = append(out, s.ID+" is needed now: "+s.Reason)
		case d != s.Digest:
			out = append(out, s.ID+" would do something else now: "+s.Reason)
		}
		delete(old, s.ID)
	}
	for _, s := range saved.Steps {
		if _, gone := old[s.ID]; gone {
			out = append(out, s.ID+" is not needed any more")
		}
	}
	return append(out, "the order of steps")[:max(len(out), 1)]
}

func movedChanges(saved, fresh []Change) []string {
	var out []string
	old := map[string]bool{}
	for _, c := range saved {
		old[string(c.Cluster)+": "+c.Words()] = true
	}
	for _, c := range fresh {
		words := string(c.Cluster) + ": " + c.Words()
		if !old[words] {
			out = append(out, words+" is needed now: "+c.Reason)
		}
		delete(old, words)
	}
	for _, words := range sortedKeys(old) {
		out = append(out, words+" is not needed any more")
	}
	return out
}
