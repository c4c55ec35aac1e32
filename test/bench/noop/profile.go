package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/onprem"
)

// profiledFor is how long plans are made for one profile: long enough for its 100 samples a second to mean something.
const profiledFor = 10 * time.Second

// profile plans again and again in this process, and writes where its CPU time went. What the program does before it
// opens the site is not in it.
func profile(file string, s site, p *player) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	begin, n := time.Now(), 0
	var opened, planned time.Duration
	for err == nil && time.Since(begin) < profiledFor {
		n++
		var o, pl time.Duration
		o, pl, err = planHere(s)
		opened, planned = opened+o, planned+pl
	}
	pprof.StopCPUProfile()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	c, err := p.counts()
	if err != nil {
		return err
	}
	fmt.Printf("%d machines: %d plans, each %s to open the site and %s to plan (stand-ins' CPU %s a plan); profile in %s\n",
		s.machines, n, (opened / time.Duration(n)).Round(time.Millisecond), (planned / time.Duration(n)).Round(time.Millisecond),
		(c.CPU / time.Duration(n)).Round(time.Millisecond), file)
	return nil
}

func planHere(s site) (opened, planned time.Duration, err error) {
	begin := time.Now()
	site, err := bootstrap.Open(s.inventory, bootstrap.Options{Operator: "bench", Providers: provider.Registry{"onprem": onprem.New()}})
	if err != nil {
		return 0, 0, err
	}
	defer site.Close()
	opened = time.Since(begin)
	pl, err := site.Plan(context.Background())
	if err == nil && (len(pl.Steps) > 0 || len(pl.Unreachable) > 0) {
		err = fmt.Errorf("there are %d steps, and there should be none; machines that were not seen: %v", len(pl.Steps), pl.Unreachable)
	}
	return opened, time.Since(begin) - opened, err
}
