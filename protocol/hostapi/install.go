package hostapi

// How the shim lies on a host. The controller installs it so, with this
// command line (flags have these values as defaults):
//
//	dstack-shim serve     --home DIR --agent FILE   the daemon, in the foreground
//	dstack-shim supervise --home DIR --agent FILE   runs serve and starts it again whenever it ends, until TERM
//	                                                (hosts without systemd, and the local host); the executable
//	                                                is looked up anew each time, so an update takes effect;
//	                                                takes HOME/shim.env (KEY="value" lines) into the environment;
//	                                                TERM ends it and its serve, and leaves the tasks alone
//	dstack-shim dial      --home DIR                stdin/stdout ⇄ HOME/shim.sock after Magic; exits 1 with the
//	                                                reason on stderr when nobody listens
//	dstack-shim uninstall --home DIR                with a running shim or without: stops supervise and serve, kills
//	                                                all tasks, removes containers and keys, then the home; exit 0
//	                                                when nothing is left (the controller removes unit and binaries)
//	dstack-shim version                             prints the version
const (
	ShimPath = "/usr/local/bin/dstack-shim"
	// AgentDir/<version>/dstack-agent is the agent.
	AgentDir  = "/usr/local/lib/dstack"
	AgentName = "dstack-agent"
	Unit      = "dstack-shim.service"
	Home      = "/root/.dstack"
	// The rest lies below the home.
	SocketName = "shim.sock"
	EnvName    = "shim.env"
	// PIDName holds the process id of supervise, or of serve without it.
	PIDName = "shim.pid"
	LogName = "shim.log"
)

// Variables that tell the shim about its machine.
const (
	// EnvCloud is the type of the backend that the machine is rented from; it
	// is not set on hosts of SSH fleets.
	EnvCloud = "DSTACK_SHIM_CLOUD"
	// EnvSpot is "true" where that cloud may take the machine back.
	EnvSpot = "DSTACK_SHIM_SPOT"
)
