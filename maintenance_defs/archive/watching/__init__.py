"""Is an archive well? Signs in the database and the store, two-way agreement, restore drills. Changes nothing."""
