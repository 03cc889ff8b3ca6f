/*
 * Writes a capture with libscap, Falco's own library: this machine's processes, descriptors and users, then events from a file.
 *
 *   cc -I/usr/include/falcosecurity-libs{,/userspace/libscap,/userspace/common,/driver} -o libscap libscap.c -lscap
 *   ./libscap OUT EVENTS 0|1     (1: gzip)
 *
 * For libscap of 2022 (Debian 12: libfalcosecurity0-dev). README.md says how it is run.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scap.h"

int main(int argc, char **argv)
{
	char error[SCAP_LASTERR_SIZE];
	int32_t status;
	uint32_t length;
	int number = 0;
	scap_open_args args;

	if(argc != 4)
	{
		return 2;
	}
	memset(&args, 0, sizeof args);
	args.mode = SCAP_MODE_NODRIVER;
	args.import_users = true;
	scap_t *handle = scap_open(args, error, &status);
	FILE *events = fopen(argv[2], "rb");
	if(!handle || !events)
	{
		return 1;
	}
	scap_dumper_t *dumper = scap_dump_open(handle, argv[1], atoi(argv[3]) ? SCAP_COMPRESSION_GZIP : SCAP_COMPRESSION_NONE, false);
	while(dumper && fread(&length, sizeof length, 1, events) == 1)
	{
		char *event = malloc(length);
		if(!event || fread(event, 1, length, events) != length ||
		   scap_dump(handle, dumper, (scap_evt *)event, number++ % 4, 0) != SCAP_SUCCESS)
		{
			return 1;
		}
		free(event);
	}
	if(!dumper)
	{
		return 1;
	}
	scap_dump_close(dumper);
	scap_close(handle);
	return 0;
}
