package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
)

// standinConfig and counts are the stand-in's Config and Counts, which say what they hold.
type standinConfig struct {
	AuthorizedKey string           `json:"authorizedKey"`
	RoundTrip     time.Duration    `json:"roundTrip"`
	Script        string           `json:"script"`
	Machines      []standinMachine `json:"machines"`
}

type standinMachine struct {
	Name    string `json:"name"`
	Listen  string `json:"listen"`
	HostKey string `json:"hostKey"`
	Capture string `json:"capture"`
}

type counts struct {
	Connections map[string]int `json:"connections"`
	Commands    map[string]int `json:"commands"`
	Unknown     int            `json:"unknown"`
	CPU         time.Duration  `json:"cpu"`
}

// player is a running stand-in.
type player struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// play starts the stand-in for a site's machines.
func play(standin string, s site, trip time.Duration) (*player, error) {
	config := s.standin
	config.RoundTrip, config.Script = trip, factsScript()
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "standin.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	c := exec.Command(standin, file)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	p := &player{cmd: c, in: in, out: bufio.NewReader(out)}
	if l, err := p.out.ReadString('\n'); l != "ready\n" {
		p.end()
		return nil, errors.Join(errors.New("the stand-in did not start"), err)
	}
	return p, nil
}

// factsScript is the part of the facts script that every machine gets: what is asked for stands before it, one
// assignment a line.
func factsScript() string {
	script := host.Script(host.Query{})
	for strings.HasPrefix(script, "Q_") {
		_, script, _ = strings.Cut(script, "\n")
	}
	return script
}

// counts asks what happened since it was last asked.
func (p *player) counts() (counts, error) {
	var c counts
	if _, err := fmt.Fprintln(p.in); err != nil {
		return c, fmt.Errorf("stand-in: %w", err)
	}
	l, err := p.out.ReadBytes('\n')
	if err != nil {
		return c, fmt.Errorf("stand-in: %w", err)
	}
	return c, json.Unmarshal(l, &c)
}

func (p *player) end() {
	_ = p.in.Close() // its standard input ends, and with it the process
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait() // it has nothing to lose
}
