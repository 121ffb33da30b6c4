// Package process runs the parts of a benchmark, each in a process of its own,
// and reads what they cost.
//
//	parent                                child
//	Start ------------ exec ------------> Announce: one JSON line on stdout
//	   <------------- Ready -------------
//	Usage ----------- /proc ------------>
//	Stop ------------- kill ------------> gone
//	(parent dies) --- stdin closes -----> WithParent's context ends
//	              --- Pdeathsig --------> gone, whatever it does
//
// Goroutines: Start starts none that outlives it but those of os/exec, which
// Stop awaits; WithParent starts one that reads stdin until it closes.
package process
