// The process that holds a pod's namespaces open. Standard library only.
module mcp-health.local/parts/pause

go 1.26.0
