package org.hibernate.agroal.internal;

/** Only a name, which Debezium's sink mentions as its default: Hibernate's own pool is used. */
public final class AgroalConnectionProvider {}
