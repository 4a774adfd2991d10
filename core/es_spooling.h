/* es_spooling.h: a pipeline's use of its spool.
 *
 * Batches go to the disk when the destination has failed for a while, or when the
 * queue is half full: then what is in memory and what is in the queue moves, so
 * that the queue is free for what comes. What is under way moves, too, and goes
 * on: its answer settles it in the spool. Replaying has half of the requests,
 * because what is new waits in memory. Without a spool nothing here does
 * anything. */

#ifndef ES_SPOOLING_H
#define ES_SPOOLING_H

#include "es_pipeline.h"

/* A spool that cannot be opened is told and done without. */
void es_spooling_open(es_pipeline_t *pipeline);
void es_spooling_close(es_pipeline_t *pipeline);

/* Is it time to move to the disk? */
bool es_spooling_due(const es_pipeline_t *pipeline);

/* Moves what is in memory and in the queue, a good part of it at once; without
 * `flush`, not what is less than a batch. False: nothing is left, or the disk
 * refused. */
bool es_spooling_store(es_pipeline_t *pipeline, bool flush);

/* The next batch out of the spool, or NULL. */
es_batch_t *es_spooling_next(es_pipeline_t *pipeline);

/* A batch was delivered, or given up. */
void es_spooling_settled(es_pipeline_t *pipeline, es_batch_t *batch);

/* A batch failed. True: it went to the disk meanwhile, this copy is of no use. */
bool es_spooling_failed(es_pipeline_t *pipeline, const es_batch_t *batch);

#endif
