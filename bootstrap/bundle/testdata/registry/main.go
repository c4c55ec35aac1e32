// Command registry serves the distribution registry, a real one, on a free port of the loopback for the tests of bundle.
// Usage: registry FOLDER; with REGISTRY_USER and REGISTRY_HASH (bcrypt) in the environment it asks for a login. It prints its
// address, and ends when its standard input does.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(folder string) error {
	c := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": folder},
			"delete":     {"enabled": true},
		},
	}
	c.HTTP.Secret = "of the tests"
	c.Log.Level = "error"
	c.Catalog.MaxEntries = 100
	if user := os.Getenv("REGISTRY_USER"); os.Getenv("REGISTRY_HASH") != "" {
		file := filepath.Join(folder, "htpasswd")
		if err := os.WriteFile(file, []byte(user+":"+os.Getenv("REGISTRY_HASH")+"\n"), 0o600); err != nil {
			return err
		}
		c.Auth = configuration.Auth{"htpasswd": {"realm": "tests", "path": file}}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	app := handlers.NewApp(context.Background(), c)
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, app) //nolint:gosec // the tests alone talk to it
}
