package iwarptest

// Settle is settle, for a test that waits for it to pass.
var Settle = &settle
