// Command standin plays many machines at once for the benchmark of `catamaran plan`. It is a stand-in, not a machine:
// it speaks real SSH (an ed25519 host key and a listener of its own for each machine, public key authentication), but
// executes nothing. It knows one command, the facts script, by the script's text, and answers it with a capture that
// was made beforehand; every other command gets exit status 127 and is counted as unknown.
//
//	standin CONFIG
//
// It prints "ready" once all listeners are open. For every line on its standard input it prints the counts since the
// line before as one line of JSON; at the end of its input it ends.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Config is what the stand-in plays.
type Config struct {
	// AuthorizedKey signs in on every machine, as any user; one line of authorized_keys.
	AuthorizedKey string `json:"authorizedKey"`
	// RoundTrip is the network's round trip, half of it each way; 0 adds nothing to loopback's own.
	RoundTrip time.Duration `json:"roundTrip"`
	// Script is the text by which the facts script is known.
	Script   string    `json:"script"`
	Machines []Machine `json:"machines"`
}

// Machine is one of the machines that are played.
type Machine struct {
	Name   string `json:"name"`
	Listen string `json:"listen"` // address:port
	// HostKey is a private key, PEM. The keys are made for one run of the benchmark and guard nothing.
	HostKey string `json:"hostKey"`
	// Capture is a file: what the facts script prints there. The word @CLOCK@ in it becomes the time of asking.
	Capture string `json:"capture"`
}

// Counts are what happened since they were last asked for.
type Counts struct {
	// Connections and Commands by machine, for those that had any.
	Connections map[string]int `json:"connections"`
	Commands    map[string]int `json:"commands"`
	// Unknown are commands that are not the facts script, and channels that are no sessions; there should be none.
	Unknown int `json:"unknown"`
	// CPU is the stand-in's own user and system time.
	CPU time.Duration `json:"cpu"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: standin CONFIG")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	t := newTally()
	for _, m := range c.Machines {
		if err := serve(c, m, t); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	fmt.Println("ready")
	before := cpu()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		counts := t.take()
		now := cpu()
		counts.CPU, before = now-before, now
		if err := json.NewEncoder(os.Stdout).Encode(counts); err != nil {
			return err
		}
	}
	return in.Err()
}

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
