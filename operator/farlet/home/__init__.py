"""What farlet follows at home: Pods, by Kopf in a thread of its own, and what Kopf cannot tell."""
