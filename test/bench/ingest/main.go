// Command ingest measures what the ingest gateway takes in, beside what its two stores take without it: plain pushes to Loki,
// and plain PUTs under COMPLIANCE lock to versitygw. All of it are the real programs with the settings of the charts, new and empty
// for every phase, on this machine's loopback; the contenders take turns.
//
//	go run ./test/bench/ingest [-rounds 3] [-for 20s] [-warmup 3s] [-connections 16] [-chunk 900] [-size small] [-dir DIR]
//
// A phase counts only if everything that was acknowledged is found again afterwards. It needs no root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type options struct {
	rounds, connections, chunk int
	time, warmup               time.Duration
	size, dir                  string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each contender is measured")
	flag.DurationVar(&o.time, "for", 20*time.Second, "how long each is measured")
	flag.DurationVar(&o.warmup, "warmup", 3*time.Second, "how long it runs before")
	flag.IntVar(&o.connections, "connections", 16, "connections of the load; 16 are the flush threads of 8 nodes' Fluentd")
	flag.IntVar(&o.chunk, "chunk", 900, "records of a chunk; 900 are the most that the fluentd chart puts into one of container logs")
	flag.StringVar(&o.size, "size", "small", "size of the charts")
	flag.StringVar(&o.dir, "dir", "", "folder for the stores' data, on a file system with extended attributes; the temporary one if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.rounds < 1 || o.connections < 1 || o.chunk < 1 || o.chunk > stockRecords/2 || o.time <= 0 || o.warmup < 0 {
		return fmt.Errorf("-rounds, -connections, -chunk (at most %d) and -for must be more than 0", stockRecords/2)
	}
	p, err := findPrograms(ctx)
	if err != nil {
		return err
	}
	records, err := newStock()
	if err != nil {
		return err
	}
	fmt.Printf("charts' size %s; %d connections, chunks of %d records, %.0f bytes of JSON a record; %s after %s of warming up\n\n",
		o.size, o.connections, o.chunk, float64(records.texts.size(0, stockRecords))/stockRecords, o.time, o.warmup)
	all := contenders(o)
	results := make([][]result, len(all))
	objects := int64(0)
	for round := range o.rounds {
		for i := range all {
			// the gateway comes first in the first round: the size of its objects is that of the plain ones
			at := (round + i) % len(all)
			before := machineLoad()
			r, err := phase(ctx, o, p, all[at], &source{stock: records, objectBytes: objects})
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", all[at].name, round+1, err)
			}
			if at == 0 {
				objects = int64(r.objectPlain)
			}
			results[at] = append(results[at], r)
			fmt.Printf("round %d  %-34s %s   load before: %s\n", round+1, all[at].name, r, before)
		}
	}
	return report(os.Stdout, all, results)
}

// phase measures one contender once.
func phase(ctx context.Context, o options, p programs, c contender, src *source) (r result, err error) {
	dir, err := os.MkdirTemp(o.dir, "catamaran-ingest-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.Abs(dir); err != nil {
		return r, err
	}
	s, err := open(ctx, dir, p, o.size, c.servers)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if src.objectBytes == 0 {
		src.objectBytes = int64(s.gateway.Chain.ObjectBytes)
	}
	l, err := c.open(s, src, o.connections)
	if err != nil {
		return r, err
	}
	syscall.Sync() // what was left to be written is not this one's
	all, r, err := drive(ctx, o, s, l)
	if err != nil {
		return r, err
	}
	if f, ok := l.(*forwarding); ok {
		if r.objectRecords, r.objectPlain, r.objectStored, err = f.objects(ctx); err != nil {
			return r, err
		}
	}
	if err := l.check(ctx, all); err != nil {
		return r, fmt.Errorf("it does not count: %w", err)
	}
	return r, nil
}

// drive lets all workers send. What is measured lies between two looks at the counters while they do; what they have under
// way at the end is waited for and belongs to all, which is what must be there afterwards.
func drive(ctx context.Context, o options, s *site, l load) (all amount, r result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var records, bytes, parts atomic.Int64
	var ending atomic.Bool
	var workers sync.WaitGroup
	for w := range o.connections {
		workers.Go(func() {
			for !ending.Load() && ctx.Err() == nil {
				a, err := l.send(ctx, w)
				if err != nil {
					cancel(err)
					return
				}
				records.Add(a.records)
				bytes.Add(a.bytes)
				parts.Add(a.parts)
			}
		})
	}
	look := func(after time.Duration) (at moment, err error) {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return at, context.Cause(ctx)
		case <-timer.C:
		}
		at = moment{time: time.Now(), amount: amount{records.Load(), bytes.Load(), parts.Load()}, cpu: map[string]time.Duration{}}
		if at.cpu[clientName], err = cpuOf(os.Getpid()); err != nil {
			return at, err
		}
		for _, p := range s.running {
			if at.cpu[p.name], err = cpuOf(p.cmd.Process.Pid); err != nil {
				return at, p.said(err)
			}
		}
		return at, nil
	}
	begin, err := look(o.warmup)
	var end moment
	if err == nil {
		end, err = look(o.time)
	}
	ending.Store(true)
	if err != nil {
		cancel(err)
	} else {
		r, err = between(begin, end, s.running)
	}
	workers.Wait()
	if err == nil {
		err = context.Cause(ctx) // of what was waited for
	}
	return amount{records.Load(), bytes.Load(), parts.Load()}, r, err
}

// machineLoad is the machine's load of the last minute.
func machineLoad() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}
