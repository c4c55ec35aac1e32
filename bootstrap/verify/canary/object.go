package canary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// maxObject bounds what an object may decompress to, in bytes.
const maxObject = 1 << 30

// object waits for the locked object that holds the trace. Objects are numbered without a gap, so it asks for one number
// after the other, beginning with the chain's end before anything was done.
func (o *Options) object(ctx context.Context, c Channel, next uint64, r *Result) {
	err := o.poll(ctx, o.BucketTimeout, func(ctx context.Context) (bool, error) {
		for {
			key := chain.Key(o.Tenant, next)
			body, err := o.Bucket.Get(ctx, key, 0)
			if errors.Is(err, chain.ErrNotFound) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			there, err := holds(body, c, r.Marker)
			if err != nil {
				return false, fmt.Errorf("object %s: %w", key, err)
			}
			if there {
				r.Object = key
				return true, nil
			}
			next++
		}
	})
	if err == nil {
		err = o.locked(ctx, r)
	}
	if err != nil {
		reason := fmt.Sprintf("not in a locked object within %s: %v", o.BucketTimeout, err)
		if r.Failed != "" {
			reason = r.Failed + "; " + reason
		}
		r.Failed = reason
		o.Report(c.Name, reason)
		return
	}
	r.ObjectLatency = time.Since(r.Fired).Seconds()
	o.Report(c.Name, fmt.Sprintf("in %s, locked until %s, after %.1f s", r.Object, r.Locked.Format(time.DateOnly), r.ObjectLatency))
}

// locked asserts the lock of the object that was found.
func (o *Options) locked(ctx context.Context, r *Result) error {
	info, err := o.Bucket.Head(ctx, r.Object)
	if err != nil {
		return err
	}
	if info.Mode != chain.ModeCompliance || !info.RetainUntil.After(time.Now()) {
		return fmt.Errorf("object %s has lock %q until %s, expected %s until later", r.Object, info.Mode, info.RetainUntil.Format(time.RFC3339), chain.ModeCompliance)
	}
	until := info.RetainUntil.UTC()
	r.Locked = &until
	return nil
}

// holds says whether an object (see cmd/ingest-gateway/chain) holds the trace.
func holds(body []byte, c Channel, marker string) (bool, error) {
	dec, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxObject))
	if err != nil {
		return false, err
	}
	defer dec.Close()
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(dec); err != nil {
		return false, fmt.Errorf("decompress: %w", err)
	}
	for raw := range bytes.Lines(plain.Bytes()) {
		if !bytes.Contains(raw, []byte(marker)) {
			continue
		}
		var line struct {
			Record json.RawMessage `json:"record"`
		}
		if err := json.Unmarshal(raw, &line); err != nil {
			return false, fmt.Errorf("a record: %w", err)
		}
		if c.Is(line.Record, marker) {
			return true, nil
		}
	}
	return false, nil
}
