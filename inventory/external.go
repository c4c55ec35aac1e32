package inventory

// External makes or adopts machines by a program of the site's own, which speaks JSON on its standard input and output.
type External struct {
	// Command is the program and its arguments. A program with a slash in its name starts at the inventory, another one is looked for in
	// PATH. It must hold no secret: anyone on the machine can read a process's arguments.
	Command []string `json:"command" check:"required,each=line"`
	// Config is handed to the program as it is.
	Config map[string]any `json:"config,omitzero"`
}
