"""Installs farlet in two clusters and removes it: desired objects, pure, and the steps."""
