"""What every engine is made of; nothing here runs a step."""
