package host

import (
	_ "embed" // the facts script
	"strings"
)

//go:embed facts.sh
var factsScript string

// Query says what the facts script looks for beside what it always tells.
type Query struct {
	Files   []string // hashed
	Content []string // hashed and, up to 64 KiB, shown; never secrets
	AtStart []string // those of them that the API server reads only when it starts: their age is told, and its own
	Sysctls []string
	Modules []string
	Units   []string
	Peers   []string // address:port
}

// Script is the facts script for one query. It carries no secret: it is visible in the machine's process list.
func Script(q Query) string {
	var b strings.Builder
	set := func(name string, values []string) {
		b.WriteString(name + "=" + quote(strings.Join(values, "\n")) + "\n")
	}
	set("Q_FILES", append(q.Files[:len(q.Files):len(q.Files)], q.Content...))
	set("Q_CONTENT", q.Content)
	set("Q_ATSTART", q.AtStart)
	set("Q_SYSCTLS", q.Sysctls)
	set("Q_MODULES", q.Modules)
	set("Q_UNITS", q.Units)
	set("Q_PEERS", q.Peers)
	b.WriteString(factsScript)
	return b.String()
}
